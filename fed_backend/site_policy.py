"""What a hospital lets out: <site>/policy.json, checked at the site before any message leaves. numpy-free, no torch.

    {
      "tensors": ["encoder.*"],        names of shared tensors that may leave (* and ? as in a shell); default all
      "bits": 16,                      most bits a value of an update or probe may take: 1 to 32; default 32
      "bytes_per_round": 150000,       most bytes that may leave in one round; default no bound
      "minimum_cases": 5,              fewer labelled training cases: the site only receives; default 0
      "consent": ["research"],         every training case must carry all of these tags in consent.json; default none
      "hours": {"from": "20:00", "to": "06:00", "zone": "Europe/Berlin"},     when anything may leave; default always
      "probe": true,                   whether gradient probes may leave
      "figures": true                  whether the gate's figures may leave with its verdict
    }

    <site>/consent.json: {"case name": ["tag", …], …}

No file: everything that the federation's agreement names may leave. A file that cannot be read, or has a key or value that is not known:
nothing leaves, because what the hospital meant is not known.
"""

import dataclasses
import fnmatch
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fed_backend.errors import PolicyError

POLICY_FILE = "policy.json"
CONSENT_FILE = "consent.json"
HEADER_ALLOWANCE = 1024
"""Bytes of a message that are not its values: prefix, header and checksum."""
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


@dataclass(frozen=True)
class Hours:
    """When something may leave: from `begin` (inclusive) to `end` (exclusive) on the clocks of a zone; over midnight if end < begin."""

    begin: time
    end: time
    zone: ZoneInfo

    def allow(self, now: datetime) -> bool:
        """Whether `now`, a time with its zone, lies inside."""
        clock = now.astimezone(self.zone).time()
        if self.begin <= self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M} to {self.end:%H:%M} ({self.zone.key})"


@dataclass(frozen=True)
class SitePolicy:
    """See the module for what each key means."""

    tensors: tuple[str, ...] = ("*",)
    bits: int = 32
    bytes_per_round: int | None = None
    minimum_cases: int = 0
    consent: tuple[str, ...] = ()
    hours: Hours | None = None
    probe: bool = True
    figures: bool = True

    def check_now(self, now: datetime) -> None:
        """Raises PolicyError outside the hours."""
        if self.hours is not None and not self.hours.allow(now):
            raise PolicyError(f"Its policy lets numbers leave from {self.hours} only: run rounds then.")

    def check_tensors(self, names: Iterable[str]) -> None:
        """Raises PolicyError if a tensor of the federation's layout may not leave. There is no partial update: a layout is agreed on."""
        kept = [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.tensors)]
        if kept:
            raise PolicyError(
                f"Its policy does not let {len(kept)} of the federation's shared tensors leave, {kept[0]} among them: agree on another "
                "shared depth, or add them to `tensors`."
            )

    def check_message(self, purpose: str, payload: int, values: int, sent: Mapping[str, int]) -> None:
        """Whether a message may leave in this round.

        Args:
            purpose: `update` or `probe_reply`.
            payload: its bytes.
            values: numbers in it.
            sent: purpose -> bytes of this round's other messages; the same one sent again counts once.

        Raises:
            PolicyError: more bits or bytes than the policy lets out.
        """
        used = math.ceil(8 * max(payload - HEADER_ALLOWANCE, 0) / values)
        if used > self.bits:
            raise PolicyError(
                f"Its policy lets {self.bits} bits a value leave, this {_said(purpose)} has {used}: choose a smaller encoding."
            )
        total = payload + sum(count for name, count in sent.items() if name != purpose)
        if self.bytes_per_round is not None and total > self.bytes_per_round:
            raise PolicyError(
                f"Its policy lets {self.bytes_per_round} bytes a round leave, with this {_said(purpose)} it would be {total}: choose a "
                "smaller encoding or raise `bytes_per_round`."
            )

    def check_probe(self) -> None:
        """Raises PolicyError if probes may not leave."""
        if not self.probe:
            raise PolicyError("Its policy lets no gradient probe leave.")

    def too_few_cases(self, cases: int) -> str | None:
        """Why a site with this many training cases gives nothing, as a sentence; None if it may give."""
        if cases >= self.minimum_cases:
            return None
        return f"Its policy wants {self.minimum_cases} labelled training cases before an update leaves, it has {cases}: it only receives."

    def check_consent(self, cases: Collection[str], tags: Mapping[str, Collection[str]]) -> None:
        """Whether every training case carries every tag. The sentence names no case.

        Raises:
            PolicyError: at least one does not.
        """
        lacking = sum(not set(self.consent) <= set(tags.get(case, ())) for case in cases)
        if lacking:
            raise PolicyError(
                f"{lacking} of its {len(cases)} training cases lack a consent tag that its policy wants ({', '.join(self.consent)}): add "
                f"the tags to {CONSENT_FILE}, or take the cases out of training."
            )


def read_policy(path: Path) -> SitePolicy:
    """The policy in a file; the default, which lets out what the federation agreed on, if there is none.

    Raises:
        PolicyError: the file cannot be read or understood.
    """
    value = _read(path)
    return SitePolicy() if value is None else _policy(value)


def read_consent(path: Path) -> dict[str, tuple[str, ...]]:
    """Case name -> consent tags; no file: no case has any.

    Raises:
        PolicyError: the file cannot be read or understood.
    """
    value = _read(path)
    if value is None:
        return {}
    if not all(_is_texts(tags) for tags in value.values()):
        raise PolicyError(f"{path.name} cannot be used, expected case names with lists of tags: nothing leaves until it is repaired.")
    return {case: tuple(tags) for case, tags in value.items()}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path.name} cannot be read ({error}): nothing leaves until it is repaired.") from error
    if not isinstance(value, dict):
        raise PolicyError(f"{path.name} holds a {type(value).__name__}, expected a JSON object: nothing leaves until it is repaired.")
    return value


def _policy(value: Mapping[str, Any]) -> SitePolicy:
    known = [field.name for field in dataclasses.fields(SitePolicy)]
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise PolicyError(f"{POLICY_FILE} has {unknown[0]!r}, expected only {', '.join(known)}: nothing leaves until it is repaired.")
    for key, (good, expected) in _EXPECTED.items():
        if key in value and not good(value[key]):
            raise PolicyError(f"{POLICY_FILE}: {key} is {value[key]!r}, expected {expected}: nothing leaves until it is repaired.")
    given: dict[str, Any] = {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
    if "hours" in given:
        given["hours"] = _hours(given["hours"])
    return SitePolicy(**given)


def _hours(value: Any) -> Hours:
    try:
        if set(value) != {"from", "to", "zone"} or not all(_TIME.fullmatch(value[key]) for key in ("from", "to")):
            raise ValueError("expected from and to as HH:MM, and zone")
        hours = Hours(time.fromisoformat(value["from"]), time.fromisoformat(value["to"]), ZoneInfo(value["zone"]))
    except (KeyError, TypeError, ValueError, OSError) as error:  # an unknown zone is a KeyError
        raise PolicyError(
            f'{POLICY_FILE}: hours is {value!r}, expected {{"from": "20:00", "to": "06:00", "zone": "Europe/Berlin"}} ({error}): nothing '
            "leaves until it is repaired."
        ) from error
    if hours.begin == hours.end:
        raise PolicyError(f"{POLICY_FILE}: hours begin and end at {hours.begin:%H:%M}: leave hours out to allow every hour.")
    return hours


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) and entry for entry in value)


def _is_integer(low: int, high: int) -> Any:
    return lambda value: type(value) is int and low <= value <= high


def _said(purpose: str) -> str:
    return purpose.replace("_", " ")


_EXPECTED: dict[str, tuple[Any, str]] = {
    "tensors": (lambda value: _is_texts(value) and bool(value), "a list of names or patterns"),
    "bits": (_is_integer(1, 32), "1 to 32"),
    "bytes_per_round": (_is_integer(1, 2**40), "a number of bytes from 1 on"),
    "minimum_cases": (_is_integer(0, 10_000_000), "0 to 10000000"),
    "consent": (_is_texts, "a list of tags"),
    "hours": (lambda value: isinstance(value, dict), "an object with from, to and zone"),
    "probe": (lambda value: isinstance(value, bool), "true or false"),
    "figures": (lambda value: isinstance(value, bool), "true or false"),
}
