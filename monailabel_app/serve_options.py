"""The options of `fedsca serve`, and what they may not be together. No torch, no MONAI Label: help and refusals are quick."""

import argparse
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from monailabel_app.cross_origin import checked_origin
from monailabel_app.door_settings import RANGES, DoorSettings, Limits, checked_limits, checked_number
from sam_adapters.errors import SettingError
from sam_adapters.login.user_file import UserFile
from sam_adapters.loopback import is_loopback

DESCRIPTION = """\
Start a hospital's server: MONAI Label with this app, hardened. It stays in the foreground until Ctrl-C.

Without further options it listens on this machine only and knows no users, which is right for one workstation. To let
others in, it wants TLS and a login:

  fedsca users add anna --users north/users.json --role annotator
  fedsca serve --studies north/studies --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --users north/users.json

3D Slicer's MONAI Label module then connects to https://<this machine>:8000 and asks for name and password."""

EPILOG = """\
limits (--limit NAME VALUE, as often as needed; default in brackets):
  upload_mb       largest upload of an image or label, in MiB [{upload_mb:g}]
  body_mb         largest other request, in MiB [{body_mb:g}]
  body_seconds    how long a request may take to arrive [{body_seconds:g}]
  idle_seconds    how long it may pause [{idle_seconds:g}]
  heavy           requests for whole images at once [{heavy}], more wait: heavy_waiting [{heavy_waiting}]
  clicks          requests for one slice at once [{clicks}], more wait: clicks_waiting [{clicks_waiting}]
  wait_seconds    longest wait, then 429 [{wait_seconds:g}]

What is done is written to <site>/audit.jsonl. See docs/serving.md."""


@dataclass(frozen=True)
class ServeOptions:
    """Checked options.

    Attributes:
        studies: folder of images, or the URL of a DICOMweb server.
        site: site directory; None for the one that belongs to the studies.
        host, port: where to listen.
        tls: certificate and key; None for plain HTTP.
        realm: URL of the login realm; None where there is none.
        realm_client: the client id that the realm knows this server by.
        proxy: address of a reverse proxy whose X-Forwarded-For is believed; "" believes nobody.
        door: what the door is told.
        conf: the app's settings.
        verbose: log more.
    """

    studies: str
    site: Path | None
    host: str
    port: int
    tls: tuple[Path, Path] | None
    realm: str | None
    realm_client: str
    proxy: str
    door: DoorSettings
    conf: Mapping[str, str]
    verbose: bool

    @property
    def login(self) -> bool:
        """Whether users have to log in."""
        return self.realm is not None or self.door.users is not None

    @property
    def url(self) -> str:
        """Where the server is reached."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def parsed(arguments: Sequence[str]) -> ServeOptions:
    """Read and check the options.

    Raises:
        SettingError: they cannot be used, or would be unsafe together.
        SystemExit: after `--help`, or for an option that does not exist.
    """
    given = _parser().parse_args(list(arguments))
    users = given.users.expanduser().resolve() if given.users else None
    if users is not None and given.realm is not None:
        raise SettingError("Users come from --users or from --realm, not from both.")
    realm = _checked_realm(given.realm) if given.realm is not None else None
    tls = _checked_tls(given.tls_cert, given.tls_key)
    _require_protection(given.host, tls=tls is not None, login=users is not None or realm is not None)
    if given.proxy and users is None and realm is None:
        raise SettingError("Behind a proxy others reach the server, so it wants a login: --users or --realm.")
    if users is not None and not UserFile(users).table().users:
        raise SettingError(f"User file {users} holds no user, so nobody could log in: `fedsca users add` adds one.")
    door = DoorSettings(
        users=users,
        token_minutes=checked_number("--token-minutes", given.token_minutes, 1, 1440),
        origins=tuple(checked_origin(origin) for origin in given.origin),
        hosts=_own_names(given.host) if users is None and realm is None else (),
        limits=checked_limits(dict(given.limit)),
    )
    port = int(checked_number("--port", given.port, 1, 65535))
    conf = dict(given.conf)
    if "site" in conf:
        raise SettingError("The site is given by --site, not by --conf site.")
    return ServeOptions(given.studies, given.site, given.host, port, tls, realm, given.realm_client, given.proxy, door, conf, given.verbose)


def _require_protection(host: str, *, tls: bool, login: bool) -> None:
    """Refuse to let other machines in without TLS and login."""
    if is_loopback(host) or (tls and login):
        return
    missing = [
        *([] if tls else ["TLS (--tls-cert and --tls-key)"]),
        *([] if login else ["a login (--users or --realm)"]),
    ]
    raise SettingError(
        f"Host {host!r} can be reached by other machines, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: "
        "give what is missing, or stay on 127.0.0.1."
    )


def _checked_tls(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise SettingError(f"TLS needs both files: {'--tls-cert' if certificate is None else '--tls-key'} is missing.")

    def no_password() -> NoReturn:
        raise SettingError(f"TLS key {key} is encrypted: store it without a password, readable for this user only.")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_password)
    except OSError as error:  # ssl.SSLError is one
        raise SettingError(
            f"TLS files {certificate} and {key} cannot be used ({error.strerror or error}): expected PEM files of one pair."
        ) from error
    return certificate.resolve(), key.resolve()


def _checked_realm(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise SettingError(f"Realm {url!r} cannot be used: expected a URL like https://login.hospital.example/realms/monailabel.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise SettingError(f"Realm {url!r} is not https: passwords would cross the network in plain text.")
    return url.rstrip("/")


def _own_names(host: str) -> tuple[str, ...]:
    name = host.strip("[]").lower()
    return tuple(sorted({"localhost", "127.0.0.1", "[::1]", f"[{name}]" if ":" in name else name}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fedsca serve",
        description=DESCRIPTION,
        epilog=EPILOG.format(**vars(Limits())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--studies", required=True, metavar="DIR", help="folder of images (labels go below it), or the URL of a DICOMweb server")
    add("--site", type=Path, metavar="DIR", help="site directory; default: the parent of a folder named studies, else <studies>/.fedsca")
    add("--host", default="127.0.0.1", help="address to listen on [127.0.0.1]; any but loopback needs TLS and login")
    add("--port", default="8000", help="port to listen on [8000]")
    add("--tls-cert", type=Path, metavar="FILE", help="PEM file of the certificate, with its chain")
    add("--tls-key", type=Path, metavar="FILE", help="PEM file of its private key")
    add("--users", type=Path, metavar="FILE", help="built-in login: the user file that `fedsca users` keeps")
    add("--token-minutes", default="60", metavar="N", help="how long a login holds, with the built-in login [60]")
    add("--realm", metavar="URL", help="login at a Keycloak realm instead, e.g. https://login.hospital.example/realms/monailabel")
    add("--realm-client", default="monailabel-app", metavar="ID", help="this server's client id there [monailabel-app]")
    add("--origin", action="append", default=[], metavar="URL", help="let web pages of this address use the server; may be repeated [none]")
    add("--proxy", default="", metavar="ADDRESS", help="believe X-Forwarded-For of a reverse proxy at this address [none]")
    add("--limit", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=f"a limit, see below: {', '.join(RANGES)}")
    add("--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="a setting of the app; may be repeated")
    add("--verbose", action="store_true", help="log every request")
    return parser
