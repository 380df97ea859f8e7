"""The operator's decisions: approve, revoke, make a new bundle. Roster first, then the SuperLink, then the bundle, then the audit log.

The roster is what counts. If the SuperLink is down, or the command is killed on the way, `SuperLinkNodes.synchronise` mends it later: when
the SuperLink has started and before every round. No other site and no running round is touched.
"""

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fed_backend.audit_anchors import server_log
from fed_backend.enrolment import roster
from fed_backend.enrolment.authority import Authority
from fed_backend.enrolment.bundle import Bundle, seal
from fed_backend.enrolment.request import SiteRequest
from fed_backend.enrolment.roster import Entry
from fed_backend.enrolment.server_identity import ServerIdentity
from fed_backend.enrolment.site_agreement import AGREED
from fed_backend.enrolment.superlink_nodes import SuperLinkNodes
from fed_backend.errors import EnrolmentError
from fed_backend.run_config import FEDERATION_FILE, FederationSettings
from sam_adapters.provenance import utc_now

LATER = "The SuperLink is down: it is told when it starts."
_CERTIFICATE_BEGIN = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Approval:
    """What came of an approval.

    Attributes:
        entry: as it stands in the roster.
        bundle: the text for the site.
        sentences: what the SuperLink was told, for people.
    """

    entry: Entry
    bundle: str
    sentences: list[str]


def approve(state: Path, request: SiteRequest, name: str, *, replace: bool = False, policy: Mapping[str, Any] | None = None) -> Approval:
    """Let a site in and make its bundle. Repeating it makes another bundle and changes nothing else.

    Raises:
        EnrolmentError: no authority yet, keys that were revoked, or a name that is taken.
        RoundError: the SuperLink refuses; the roster holds the site all the same.
    """
    identity, authority = ServerIdentity.require(state), Authority.load(state)
    with roster.editing(state) as edited:
        edited.approve(name, request.keys, utc_now().isoformat(), replace=replace)
        entry = edited.count_bundle(name)
    _record(state, "site_approved", site=name, fingerprint=entry.keys.fingerprint, replaced=replace)
    return Approval(entry, make_bundle(state, identity, authority, entry, policy), tell_superlink(state))


def new_bundle(state: Path, name: str, *, policy: Mapping[str, Any] | None = None) -> Approval:
    """Make a member's next bundle, after address, authority or settings changed.

    Raises:
        EnrolmentError: it is no member.
    """
    identity, authority = ServerIdentity.require(state), Authority.load(state)
    with roster.editing(state) as edited:
        entry = edited.count_bundle(name)
    _record(state, "bundle_made", site=name, number=entry.bundles)
    return Approval(entry, make_bundle(state, identity, authority, entry, policy), [])


def revoke(state: Path, name: str, reason: str) -> list[str]:
    """Let a site in no longer; returns what the SuperLink was told.

    Raises:
        EnrolmentError: it is no member.
        RoundError: the SuperLink refuses; the roster says revoked all the same.
    """
    with roster.editing(state) as edited:
        entry = edited.revoke(name, utc_now().isoformat(), reason)
    _record(state, "site_revoked", site=name, fingerprint=entry.keys.fingerprint, reason=reason)
    return tell_superlink(state)


def make_bundle(state: Path, identity: ServerIdentity, authority: Authority, entry: Entry, policy: Mapping[str, Any] | None = None) -> str:
    """The sealed text for one entry of the roster, numbered `entry.bundles`."""
    settings = FederationSettings.load(state) if (state / FEDERATION_FILE).exists() else FederationSettings()
    bundle = Bundle(
        site=entry.name,
        recipient=entry.keys.fingerprint,
        number=entry.bundles,
        issued=utc_now().isoformat(),
        federation=settings.federation,
        address=identity.address,
        authority=authority.ca_file.read_text(encoding="ascii"),
        roots=_certificates_alone(identity.tls(state).ca),
        settings={key: getattr(settings, key) for key in AGREED},
        policy=policy,
    )
    return seal(bundle, entry.keys, authority)


def tell_superlink(state: Path) -> list[str]:
    """Bring the SuperLink in line with the roster now if it is up."""
    nodes = SuperLinkNodes(state)
    return nodes.synchronise().sentences if nodes.answers() else [LATER]


def read_policy(path: Path | None) -> Mapping[str, Any] | None:
    """A policy to propose; None for None.

    Raises:
        EnrolmentError: it is no JSON object.
    """
    if path is None:
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EnrolmentError(f"The policy {path} cannot be read ({error}): expected a JSON object.") from error
    if not isinstance(value, dict):
        raise EnrolmentError(f"The policy {path} holds a {type(value).__name__}, expected a JSON object.")
    return value


def _certificates_alone(path: Path) -> str:
    """The certificates of a PEM file, and nothing else that may stand in it: never a private key."""
    text = path.read_text(encoding="utf-8")
    blocks = [block.partition("-----END CERTIFICATE-----")[0] for block in text.split(_CERTIFICATE_BEGIN)[1:]]
    if not blocks:
        raise EnrolmentError(f"{path} holds no certificate: expected the PEM file of the authority that signed the server's certificate.")
    return "".join(f"{_CERTIFICATE_BEGIN}{block}-----END CERTIFICATE-----\n" for block in blocks)


def _record(state: Path, event: str, **what: Any) -> None:
    server_log(state).record(event, who=getpass.getuser(), **what)
