"""Where and how the page is served. Pure checks before anything listens."""

import stat
from dataclasses import dataclass
from pathlib import Path

from fed_backend.errors import LaunchError
from sam_adapters.loopback import is_loopback

DEFAULT_PORT = 9190
USERS_FILE = "page-users.json"
SHORTEST_TOKEN, LONGEST_TOKEN = 32, 1024


@dataclass(frozen=True)
class PageOptions:
    """What `fedsca server page` was asked for.

    Attributes:
        state: the server's state folder.
        host, port: where to listen.
        certificate, key: PEM files of TLS; both or neither.
        minutes: how long a login lasts.
        metrics_token: lets Prometheus in at /metrics without a login; "" lets nobody.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    certificate: Path | None = None
    key: Path | None = None
    minutes: float = 60.0
    metrics_token: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise LaunchError("TLS needs both --ssl-cert and --ssl-key.")
        if not is_loopback(self.host) and not self.tls:
            raise LaunchError(
                f"The page on {self.host} could be read on the way, passwords too: give --ssl-cert and --ssl-key, or --host 127.0.0.1."
            )
        if not 1 <= self.minutes <= 24 * 60:
            raise LaunchError(f"A login of {self.minutes:g} minutes cannot be used: expected 1 to 1440.")

    @property
    def tls(self) -> bool:
        """Whether the page is served by https."""
        return self.certificate is not None

    @property
    def url(self) -> str:
        """The page's address for people."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"


def read_token(path: Path | None) -> str:
    """The token of a file of its own, mode 0600; "" for None.

    Raises:
        LaunchError: it cannot be read, others may read it, or it is too short to be a secret.
    """
    if path is None:
        return ""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise LaunchError(f"Token file {path} can be read by others on this machine: chmod 600 it.")
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"Token file {path} cannot be read ({error}): name another, or make one: openssl rand -hex 32.") from error
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise LaunchError(
            f"Token file {path} holds no good token: expected one of {SHORTEST_TOKEN} characters or more: openssl rand -hex 32."
        )
    return token
