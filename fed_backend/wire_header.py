"""The header of a message on the wire: which fields each kind has in each version, what they may hold, and how they are spelled. Pure.

See `wire` for the whole message and `docs/wire.md` for the specification.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fed_backend.errors import BaseMismatchError, MalformedMessageError, SchemaMismatchError, UnexpectedMessageError
from fed_backend.payload_codec import ENCODINGS
from fed_backend.projection import LARGEST_SEED, NONZEROS
from sam_adapters.schema import AdapterSchema
from sam_adapters.site_directory import SITE_NAME_PATTERN

WIRE_VERSION = 2
PLAIN_VERSION = 1
MAX_HEADER = 65_536
MAX_PAYLOAD = 2**28
MAX_SITES = 512
MAX_NAMED = 64  # sites with the largest weights that a mixture of version 2 names
MAX_CASES = 10_000_000
MAX_ROUND = 1_000_000_000
REFERENCE_DIGITS = 32
_WEIGHT_SUM_TOLERANCE = 1e-6

Kind = Literal["update", "probe request", "probe reply", "mixture"]


def canonical(header: object) -> bytes:
    """A header as bytes: the one spelling that is accepted. Raises ValueError for NaN."""
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def parse_header(kind: Kind, text: bytes) -> dict[str, Any]:
    """The JSON object in a header's bytes. Raises MalformedMessageError."""
    try:
        header = json.loads(text.decode("ascii"))
        spelled = canonical(header)
    except (ValueError, RecursionError) as error:  # includes UnicodeDecodeError, JSONDecodeError, NaN, numbers of thousands of digits
        raise MalformedMessageError(f"The {kind}'s header cannot be read ({type(error).__name__}), expected canonical JSON.") from error
    # Only one spelling of a header is accepted, so there are no repeated keys and no two messages that mean the same.
    if not isinstance(header, dict) or spelled != text:
        raise MalformedMessageError(f"The {kind}'s header is not a JSON object in canonical form (sorted keys, no spaces).")
    return header


def _is_integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_hex(length: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) == length and set(value) <= set("0123456789abcdef")


def _is_site(value: Any) -> bool:
    return isinstance(value, str) and SITE_NAME_PATTERN.fullmatch(value) is not None


def _is_pair_of_cases(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int and 1 <= number <= MAX_CASES for number in value)


def largest(weights: Mapping[str, float], count: int = MAX_NAMED) -> dict[str, float]:
    """The `count` largest weights, names in alphabetical order where they are equal."""
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:count])


def at_most_named(weights: Mapping[str, float]) -> dict[str, float]:
    """For sites of version 1, which read `MAX_SITES` names whose weights sum to 1: the largest, scaled. For people to read."""
    if len(weights) <= MAX_SITES:
        return dict(weights)
    kept = largest(weights, MAX_SITES)
    total = sum(kept.values())
    return {name: weight / total for name, weight in kept.items()}


def _are_largest_weights(value: Any) -> bool:
    """As `_are_weights`, but where as many sites as can be named are, the rest of the weight may be with others."""
    if not isinstance(value, dict) or len(value) != MAX_NAMED:
        return isinstance(value, dict) and len(value) < MAX_NAMED and _are_weights(value)
    weights = list(value.values())
    good = all(_is_site(name) for name in value) and all(type(weight) is float and weight > 0 for weight in weights)
    return good and sum(weights) <= 1 + _WEIGHT_SUM_TOLERANCE


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and 1 <= len(value) <= MAX_SITES
        and all(_is_site(name) and type(weight) is float and 0 < weight <= 1 + _WEIGHT_SUM_TOLERANCE for name, weight in value.items())
        and abs(sum(value.values()) - 1) <= _WEIGHT_SUM_TOLERANCE
    )


def _is_projection_size(value: Any) -> bool:
    return type(value) is int and NONZEROS <= value <= 2**20 and value % NONZEROS == 0


@dataclass(frozen=True)
class _Field:
    good: Callable[[Any], bool]
    expected: str


_SITE = _Field(_is_site, "a site name")
_ROUND = _Field(_is_integer(0, MAX_ROUND), f"0 to {MAX_ROUND}")
_CASES = _Field(_is_integer(0, MAX_CASES), f"0 to {MAX_CASES}")
_SEED = _Field(_is_integer(0, LARGEST_SEED), f"0 to {LARGEST_SEED}")
_SIZE = _Field(_is_projection_size, f"a multiple of {NONZEROS} up to {2**20}")
_COUNT = _Field(_is_integer(1, MAX_PAYLOAD // 2), f"1 to {MAX_PAYLOAD // 2}")
_LAYOUT = {
    "base": _Field(_is_hex(64), "64 hexadecimal digits"),
    "schema": _Field(_is_hex(16), "16 hexadecimal digits"),
    "count": _COUNT,
}
_FIELDS: dict[Kind, dict[str, _Field]] = {
    "update": {"site": _SITE, "round": _ROUND, "cases": _CASES, **_LAYOUT},
    "probe request": {"round": _ROUND, "seed": _SEED, "size": _SIZE, **_LAYOUT},
    "probe reply": {
        "site": _SITE,
        "round": _ROUND,
        "seed": _SEED,
        "size": _SIZE,
        "cases": _Field(_is_pair_of_cases, f"two numbers from 1 to {MAX_CASES}"),
        "count": _COUNT,
    },
    "mixture": {
        "site": _SITE,
        "round": _ROUND,
        "newcomer": _Field(lambda value: isinstance(value, bool), "true or false"),
        "weights": _Field(_are_weights, f"1 to {MAX_SITES} site names with numbers above 0 that sum to 1"),
        **_LAYOUT,
    },
}


_ENCODING = {"encoding": _Field(lambda value: value in ENCODINGS, " or ".join(ENCODINGS))}
_REFERENCE = _Field(lambda value: value == "" or _is_hex(REFERENCE_DIGITS)(value), f"{REFERENCE_DIGITS} hexadecimal digits, or none")
_LARGEST_WEIGHTS = _Field(
    _are_largest_weights, f"1 to {MAX_NAMED} site names with numbers above 0 that sum to 1, or to less with {MAX_NAMED}"
)
_CODED_FIELDS: dict[Kind, dict[str, _Field]] = {
    "update": {**_FIELDS["update"], **_ENCODING, "reference": _REFERENCE},
    "probe request": {**_FIELDS["probe request"], **_ENCODING},
    "probe reply": {**_FIELDS["probe reply"], **_ENCODING},
    "mixture": {**_FIELDS["mixture"], **_ENCODING, "reference": _REFERENCE, "acknowledged": _REFERENCE, "weights": _LARGEST_WEIGHTS},
}


def check_fields(kind: Kind, version: int, header: Mapping[str, Any]) -> None:
    """Raises MalformedMessageError unless the header has exactly its kind's fields, with values in their ranges."""
    fields = _FIELDS[kind] if version == PLAIN_VERSION else _CODED_FIELDS[kind]
    if set(header) != set(fields):
        raise MalformedMessageError(f"The {kind}'s header has fields {_short(sorted(header))}, expected {sorted(fields)}.")
    for name, rule in fields.items():
        if not rule.good(header[name]):
            raise MalformedMessageError(f"The {kind}'s {name} is {_short(header[name])}, expected {rule.expected}.")


def check_layout(kind: Kind, header: Mapping[str, Any], schema: AdapterSchema) -> None:
    """Raises BaseMismatchError or SchemaMismatchError if the message is for other adapters than this side's."""
    if header["base"] != schema.base:
        raise BaseMismatchError(
            f"The {kind} is for base {header['base'][:16]}, this side's base is {schema.base[:16]}: use one base at all sites."
        )
    if header["schema"] != schema.id:
        raise SchemaMismatchError(
            f"The {kind} has adapter layout {header['schema']}, this side's is {schema.id} ({schema.layout}, "
            f"{schema.size} values): use the same settings at all sites."
        )


def expect(header: Mapping[str, Any], **expected: str | int | None) -> None:
    """Raises UnexpectedMessageError if a field is another than expected; None expects nothing."""
    for name, value in expected.items():
        if value is not None and header[name] != value:
            raise UnexpectedMessageError(f"The message's {name} is {header[name]!r}, expected {value!r}: it answers something else.")


def _short(value: Any) -> str:
    """`repr`, cut where a sender made it long."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
