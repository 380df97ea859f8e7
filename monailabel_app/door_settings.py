"""What the server's door is told through the environment, beside MONAI Label's own MONAI_LABEL_* variables. No torch, no MONAI Label.

`fedsca serve` sets these; under plain `monailabel start_server` a hospital may set them itself, and without any the defaults hold:
no other origin is let in, sizes and queues have generous bounds, and whether there is a login is for MONAI_LABEL_AUTH_ENABLE to say.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from sam_adapters.errors import SettingError

PREFIX = "FEDSCA_"


@dataclass(frozen=True)
class Limits:
    """Bounds of requests. The sum of the three numbers of requests at once stays below the 40 worker threads of the server, so that
    `/info/` and `/fedsca/status` always find one.

    Attributes:
        upload_mb: largest body of a request that uploads an image or a label, in MiB.
        body_mb: largest body of any other request, in MiB.
        body_seconds: how long a whole body may take to arrive.
        idle_seconds: how long it may pause.
        heavy: requests that compute or store whole images, at once.
        heavy_waiting: how many more of them may wait.
        clicks: requests for one slice at once; they never wait behind heavy ones.
        clicks_waiting: how many more of them may wait.
        wait_seconds: how long one waits at most.
    """

    upload_mb: float = 4096
    body_mb: float = 64
    body_seconds: float = 900
    idle_seconds: float = 60
    heavy: int = 6
    heavy_waiting: int = 32
    clicks: int = 12
    clicks_waiting: int = 64
    wait_seconds: float = 60


RANGES = {
    "upload_mb": (0.001, 1_048_576),
    "body_mb": (0.001, 4096),
    "body_seconds": (0.1, 86_400),
    "idle_seconds": (0.1, 3600),
    "heavy": (1, 12),
    "heavy_waiting": (0, 1000),
    "clicks": (1, 16),
    "clicks_waiting": (0, 1000),
    "wait_seconds": (0.1, 3600),
}
"""Smallest and largest value of each limit."""


@dataclass(frozen=True)
class DoorSettings:
    """Everything the door is configured with.

    Attributes:
        users: the built-in login's user file (FEDSCA_USERS); None where a realm, or nobody, knows the users.
        token_minutes: how long a token of the built-in login is valid (FEDSCA_TOKEN_MINUTES).
        origins: web pages of other addresses that may use this server (FEDSCA_ORIGINS, a JSON list), beside MONAI_LABEL_CORS_ORIGINS.
        hosts: names by which clients may call this server (FEDSCA_HOSTS, a JSON list); empty: any.
        limits: bounds of requests (FEDSCA_UPLOAD_MB and so on, as in `Limits`).
    """

    users: Path | None = None
    token_minutes: float = 60
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "DoorSettings":
        """Read the variables.

        Raises:
            SettingError: one of them cannot be used.
        """
        users = environment.get(PREFIX + "USERS")
        return cls(
            users=Path(users) if users else None,
            token_minutes=checked_number("token_minutes", environment.get(PREFIX + "TOKEN_MINUTES", "60"), 1, 1440),
            origins=_texts("ORIGINS", environment),
            hosts=_texts("HOSTS", environment),
            limits=checked_limits({key: environment[PREFIX + key.upper()] for key in RANGES if PREFIX + key.upper() in environment}),
        )

    def environment(self) -> dict[str, str]:
        """Inverse of `from_environment`."""
        given = {"TOKEN_MINUTES": f"{self.token_minutes:g}", "ORIGINS": json.dumps(self.origins), "HOSTS": json.dumps(self.hosts)}
        if self.users is not None:
            given["USERS"] = str(self.users)
        bounds = {limit.name.upper(): f"{getattr(self.limits, limit.name):g}" for limit in fields(Limits)}
        return {PREFIX + key: value for key, value in {**given, **bounds}.items()}


def checked_limits(given: Mapping[str, str]) -> Limits:
    """`Limits` with the given values, by name, over the defaults.

    Raises:
        SettingError: an unknown name, or a value that is no number or out of its range.
    """
    unknown = sorted(set(given) - set(RANGES))
    if unknown:
        raise SettingError(f"Unknown limit {', '.join(map(repr, unknown))}: expected some of {', '.join(RANGES)}.")
    whole = {limit.name for limit in fields(Limits) if limit.type is int}
    numbers = {key: checked_number(key, text, *RANGES[key]) for key, text in given.items()}
    return Limits(**{key: int(number) if key in whole else number for key, number in numbers.items()})  # type: ignore[arg-type]


def checked_number(key: str, text: str, low: float, high: float) -> float:
    """`text` as a number from `low` to `high`, else SettingError."""
    try:
        value = float(text)
    except ValueError:
        raise SettingError(f"Setting {key} is {text!r}, expected a number.") from None
    if not low <= value <= high:
        raise SettingError(f"Setting {key} is {text!r}, expected {low:g} to {high:g}.")
    return value


def _texts(name: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    text = environment.get(PREFIX + name, "[]")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise SettingError(f"{PREFIX}{name} is {text!r}, expected a JSON list of texts.")
    return tuple(found)
