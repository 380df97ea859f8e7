"""Where every field of `FederationSettings` stands in federation.toml, and what is said about it there.

Both follow from the class itself, so that a new setting is in the file, its check and its example without another word: the section from
the field's name, the comment from the class's docstring.
"""

import dataclasses
import inspect
import re
from functools import lru_cache

from fed_backend.run_config import FederationSettings

_ROUNDS = ("min_sites", "expected_sites", "probe_every")
_PRIVACY = "privacy_"


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the file.

    Attributes:
        section, name: `[section]` and `name = …`.
        default: its value when it is not given; its type is the value's type.
        about: what is said about it, one or two sentences.
        field: the field of `FederationSettings` that it sets; "" for the server's own.
    """

    section: str
    name: str
    default: bool | int | float | str
    about: str
    field: str = ""


def place_of(field: str) -> tuple[str, str]:
    """Section and key of a field."""
    if field == "federation":
        return "federation", "name"
    if field.startswith(_PRIVACY):
        return "privacy", field.removeprefix(_PRIVACY)
    return ("rounds" if field in _ROUNDS or field.endswith("_seconds") else "federation"), field


def agreed_keys() -> list[Key]:
    """A key for every field, in the order of sections and fields."""
    about = abouts()
    keys = [Key(*place_of(name), default, about.get(name, ""), name) for name, default in dataclasses.asdict(FederationSettings()).items()]
    order = list(dict.fromkeys(key.section for key in keys))
    return sorted(keys, key=lambda key: order.index(key.section))


@lru_cache(maxsize=1)
def abouts() -> dict[str, str]:
    """Field -> what the class's docstring says of it, as a sentence; fields that are described together share it."""
    text = inspect.getdoc(FederationSettings) or ""
    _, _, attributes = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \w[\w, ]*: )", "\n" + attributes):
        match = re.match(r"\s*([\w, ]+): (.+)", " ".join(entry.split()))
        if match is not None:
            sentence = match[2].replace("`", "")
            found |= {name.strip(): sentence[0].upper() + sentence[1:] for name in match[1].split(",")}
    return found
