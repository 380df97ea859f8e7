"""What a site knows of its federation: `<site>/federation/`.

keys/<number>/             key pairs (`node_keys`); made by `enrol`, never changed
enrolling.json             which of them the newest request holds, and the name in it
membership.json            the accepted bundle, and which keys are in force: replaced atomically
roots-<digest>.pem         certificates to check the server with; named by content, written before membership.json

New keys wait beside the old ones until their bundle is accepted. Killed at any instant, a site has its old membership or its new one,
whole.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fed_backend.enrolment.bundle import Bundle, unseal
from fed_backend.enrolment.fingerprint import same_fingerprint
from fed_backend.enrolment.node_keys import NodeKeys
from fed_backend.enrolment.request import write_request
from fed_backend.errors import EnrolmentError, UntrustedError
from sam_adapters import atomic
from sam_adapters.file_lock import locked
from sam_adapters.site_directory import SiteDirectory

FOLDER = "federation"
KEYS_FOLDER, ENROLLING_FILE, MEMBERSHIP_FILE, LOCK_FILE = "keys", "enrolling.json", "membership.json", "enrolment.lock"
FORMAT = 1


@dataclass(frozen=True)
class Membership:
    """An accepted bundle and the files that go with it."""

    bundle: Bundle
    keys_folder: Path
    roots_file: Path

    @property
    def node_key(self) -> Path:
        """The private key that the SuperNode connects with."""
        return self.keys_folder / "node.key"


def enrol(site: SiteDirectory, name: str, *, new_keys: bool = False) -> tuple[str, str]:
    """Make keys, unless a request has been made before, and return the request's text and fingerprint.

    Args:
        site: the site's directory.
        name: the name to ask for.
        new_keys: make new keys; those in force stay so until a bundle for the new ones is accepted.

    Raises:
        EnrolmentError: files there cannot be read.
        SettingError: a name that cannot be used.
    """
    folder = _folder(site)
    with locked(folder / LOCK_FILE):
        keys = None if new_keys else _enrolling_keys(folder)
        if keys is None:
            keys = _make_keys(folder)
        text = write_request(name, keys)
        atomic.write_json(folder / ENROLLING_FILE, {"format": FORMAT, "keys": keys.folder.name, "name": name})
    return text, keys.public.fingerprint


def look_into(site: SiteDirectory, text: str) -> Bundle:
    """Open a bundle without accepting it, to show a person what is in it.

    Raises:
        EnrolmentError, UntrustedError: it is damaged or was not made for this site.
    """
    return _open(_folder(site), text, None)[0]


def accept(site: SiteDirectory, text: str, authority_fingerprint: str | None) -> Membership:
    """Verify a bundle and put it in force.

    Args:
        site: the site's directory.
        text: the bundle.
        authority_fingerprint: as read over the phone; None takes only a bundle of the authority that this site trusts already.

    Raises:
        EnrolmentError: it is damaged, or older than the one in force.
        UntrustedError: it was made for another site, or another authority has signed it.
    """
    folder = _folder(site)
    with locked(folder / LOCK_FILE):
        before = load(site)
        trusted = authority_fingerprint or (before.bundle.authority_fingerprint if before else None)
        if trusted is None:
            raise UntrustedError(
                "This is the site's first bundle: give --fingerprint, the authority's fingerprint as its operator reads it to you."
            )
        bundle, keys = _open(folder, text, trusted)
        if before is not None and _older(bundle, before.bundle):
            raise EnrolmentError(f"This bundle has number {bundle.number}, number {before.bundle.number} is in force: use the newest one.")
        roots = _write_roots(folder, bundle)
        value = {"format": FORMAT, "keys": keys.folder.name, "roots": roots.name, "bundle": dataclasses.asdict(bundle)}
        atomic.write_json(folder / MEMBERSHIP_FILE, value)
    return Membership(bundle, keys.folder, roots)


def load(site: SiteDirectory) -> Membership | None:
    """The membership in force; None before the first bundle was accepted.

    Raises:
        EnrolmentError: its files cannot be read.
    """
    folder = site.root / FOLDER
    try:
        value = json.loads((folder / MEMBERSHIP_FILE).read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}, this software knows {FORMAT}")
        membership = Membership(Bundle(**value["bundle"]), folder / KEYS_FOLDER / value["keys"], folder / value["roots"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnrolmentError(f"{folder / MEMBERSHIP_FILE} cannot be read ({error}): accept the newest bundle again.") from error
    missing = [path for path in (membership.node_key, membership.roots_file) if not path.exists()]
    if missing:
        raise EnrolmentError(f"{missing[0]} is gone: bring it back from a backup, or enrol anew with `fedsca site enrol --new-keys`.")
    return membership


def require(site: SiteDirectory) -> Membership:
    """The membership in force.

    Raises:
        EnrolmentError: there is none, or its files cannot be read.
    """
    membership = load(site)
    if membership is None:
        raise EnrolmentError(
            f"Site {site.root} is no member of a federation yet: `fedsca site enrol` makes a request for the federation's operator, "
            "and `fedsca site accept` takes the bundle that comes back."
        )
    return membership


def _open(folder: Path, text: str, authority_fingerprint: str | None) -> tuple[Bundle, NodeKeys]:
    """Open with whichever keys of this site it was made for."""
    sets = [keys for path in sorted((folder / KEYS_FOLDER).glob("*")) if (keys := NodeKeys.load(path)) is not None]
    if not sets:
        raise EnrolmentError("This site has no keys yet: `fedsca site enrol` makes them, and the request for the operator.")
    refusal: UntrustedError | None = None
    for keys in sets:
        try:
            bundle = unseal(text, keys)
        except UntrustedError as error:
            refusal = error
            continue
        return unseal(text, keys, authority_fingerprint) if authority_fingerprint else bundle, keys
    raise refusal or UntrustedError("The bundle does not open.")


def _older(bundle: Bundle, before: Bundle) -> bool:
    same = same_fingerprint(bundle.recipient, before.recipient)
    return bundle.number < before.number if same else bundle.issued < before.issued


def _write_roots(folder: Path, bundle: Bundle) -> Path:
    data = bundle.roots.encode()
    path = folder / f"roots-{hashlib.sha256(data).hexdigest()[:16]}.pem"
    atomic.write_bytes(path, data)
    return path


def _make_keys(folder: Path) -> NodeKeys:
    all_keys = folder / KEYS_FOLDER
    all_keys.mkdir(mode=0o700, exist_ok=True)
    return NodeKeys.create(all_keys / f"{sum(1 for _ in all_keys.iterdir()) + 1:03d}")


def _enrolling_keys(folder: Path) -> NodeKeys | None:
    try:
        value = json.loads((folder / ENROLLING_FILE).read_text(encoding="utf-8"))
        return NodeKeys.load(folder / KEYS_FOLDER / str(value["keys"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnrolmentError(f"{folder / ENROLLING_FILE} cannot be read ({error}): enrol with --new-keys.") from error


def _folder(site: SiteDirectory) -> Path:
    folder = site.root / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
