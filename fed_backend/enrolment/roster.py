"""Who is let in: `<state>/roster.json`, the truth that the SuperLink's list of nodes is brought in line with.

Kept whether or not the SuperLink runs. An entry is one pair of keys of one site; it is approved once and may be revoked once. Revoking is
for ever, as Flower never takes a removed key again: who comes back, comes with new keys.

Processes: whoever changes the roster holds <state>/roster.lock meanwhile (`editing`); readers need no lock, as the file is replaced
atomically.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fed_backend.enrolment.node_keys import PublicKeys
from fed_backend.errors import EnrolmentError
from sam_adapters import atomic
from sam_adapters.file_lock import locked
from sam_adapters.site_directory import checked_site_name

ROSTER_FILE, LOCK_FILE = "roster.json", "roster.lock"
FORMAT = 1
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Entry:
    """One approved pair of keys.

    Attributes:
        name: the site's name.
        node_key, sealing_key: its public keys, see `PublicKeys`.
        approved: when, UTC, ISO 8601.
        bundles: how many bundles were made for it.
        revoked: when; "" while it is a member.
        reason: why it was revoked.
    """

    name: str
    node_key: str
    sealing_key: str
    approved: str
    bundles: int = 0
    revoked: str = ""
    reason: str = ""

    @property
    def keys(self) -> PublicKeys:
        """The public keys."""
        return PublicKeys(self.node_key, self.sealing_key)


@dataclass
class Roster:
    """All entries, oldest first."""

    entries: list[Entry] = field(default_factory=list)

    def member(self, name: str) -> Entry | None:
        """The entry under which `name` is let in now."""
        return next((entry for entry in self.entries if entry.name == name and not entry.revoked), None)

    def members(self) -> Sequence[Entry]:
        """Everybody who is let in now."""
        return [entry for entry in self.entries if not entry.revoked]

    def approve(self, name: str, keys: PublicKeys, now: str, *, replace: bool = False) -> Entry:
        """Let `keys` in as `name`; the same keys under the same name again change nothing.

        Args:
            name: the site's name.
            keys: its public keys.
            now: UTC, ISO 8601.
            replace: revoke the keys that are in under this name.

        Raises:
            EnrolmentError: the keys were revoked, or are in under another name, or the name is taken by other keys.
            SettingError: a name that cannot be used.
        """
        checked_site_name(name)
        known = next((entry for entry in self.entries if entry.node_key == keys.node), None)
        if known is not None and known.revoked:
            raise EnrolmentError(
                f"These keys were revoked on {known.revoked[:10]} and are never let in again: the site makes new ones, "
                "`fedsca site enrol --new-keys`."
            )
        if known is not None and (known.name, known.sealing_key) != (name, keys.sealing):
            raise EnrolmentError(f"The node key of this request is in already, as {known.name}: give that name, or ask for new keys.")
        if known is not None:
            return known
        holder = self.member(name)
        if holder is not None and not replace:
            raise EnrolmentError(
                f"{name} is a member already, with other keys ({holder.keys.fingerprint}): choose another name, or, if this hospital has "
                "made new keys, approve with --replace, which revokes the old ones."
            )
        if holder is not None:
            self.revoke(name, now, "Replaced by new keys.")
        entry = Entry(name, keys.node, keys.sealing, now)
        self.entries.append(entry)
        return entry

    def revoke(self, name: str, now: str, reason: str) -> Entry:
        """Let `name` in no longer.

        Raises:
            EnrolmentError: it is no member.
        """
        entry = self.member(name)
        if entry is None:
            names = ", ".join(one.name for one in self.members()) or "nobody"
            raise EnrolmentError(f"{name!r} is no member: members are {names}.")
        return self._put(dataclasses.replace(entry, revoked=now, reason=reason))

    def count_bundle(self, name: str) -> Entry:
        """Note that one more bundle is made for the member `name`; the entry's `bundles` is its number."""
        entry = self.member(name)
        if entry is None:
            raise EnrolmentError(f"{name!r} is no member: approve its request first.")
        return self._put(dataclasses.replace(entry, bundles=entry.bundles + 1))

    def _put(self, entry: Entry) -> Entry:
        self.entries = [entry if one.node_key == entry.node_key else one for one in self.entries]
        return entry


def load(state: Path) -> Roster:
    """Read the roster; an empty one where there is no file.

    Raises:
        EnrolmentError: it cannot be read. Nobody is let in or thrown out by a guess.
    """
    path = state / ROSTER_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}, this software knows {FORMAT}")
        return Roster([Entry(**entry) for entry in value["entries"]])
    except FileNotFoundError:
        return Roster()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnrolmentError(f"The roster {path} cannot be read ({error}): bring it back from a backup.") from error


@contextmanager
def editing(state: Path) -> Iterator[Roster]:
    """The roster, to be changed; written when the block ends well, left alone when it raises.

    Raises:
        EnrolmentError: it cannot be read.
        RegistryError: another process kept it for longer than a minute.
    """
    with locked(state / LOCK_FILE, timeout=_LOCK_SECONDS):
        roster = load(state)
        yield roster
        atomic.write_json(state / ROSTER_FILE, {"format": FORMAT, "entries": [dataclasses.asdict(one) for one in roster.entries]})
