"""The last door before numbers leave a site: its policy, its privacy rule, its audit log. No torch, no Flower until ε is counted.

    door = Door.open(site, asked)       policy, rule and budget are read; whatever is broken raises, and nothing leaves
    door.gives(cases)                   None, or why the site only receives
    door.update(…), door.probe(…)       the numbers as they may leave: clipped, noised and paid for, or as they are without a rule
    door.leaves(…)                      the message itself: hours, bits, bytes; then a line in the audit log. Only then is it handed over

Everything fails closed: an error anywhere, and the caller has no bytes. Refusals are lines of the audit log (`sharing_refused`), and so is
every message that leaves (`message_left`, with the sha256 of its bytes).
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fed_backend import privacy, sgca, site_policy
from fed_backend.errors import PolicyError, PrivacyError
from fed_backend.privacy import Entropy, PrivacyRule
from fed_backend.privacy_accounting import epsilon_of
from fed_backend.privacy_ledger import PrivacyLedger, failing_closed, release_key
from fed_backend.site_policy import SitePolicy
from sam_adapters.audit import AuditLog
from sam_adapters.provenance import utc_now
from sam_adapters.schema import AdapterState
from sam_adapters.site_directory import SiteDirectory

PRIVACY_FOLDER = "privacy"
_log = logging.getLogger(__name__)
WITHHELD = "The site keeps its reasons and figures."


@dataclass(frozen=True)
class Door:
    """What a site lets out, in one round.

    Attributes:
        policy: the site's policy.
        rule: the privacy rule that holds, the stricter of the site's and the server's; None if neither has one.
        ledger: what was spent.
        log: the site's audit log.
        now: the present time with its zone, for tests.
        entropy: source of the noise, for tests.
    """

    site: SiteDirectory
    policy: SitePolicy
    rule: PrivacyRule | None
    ledger: PrivacyLedger
    log: AuditLog
    now: Callable[[], datetime] = utc_now
    entropy: Entropy = os.urandom

    @classmethod
    def open(cls, site: SiteDirectory, asked: PrivacyRule | None = None) -> "Door":
        """Read what holds at a site.

        Args:
            asked: the rule that the federation asks of every site.

        Raises:
            PolicyError, PrivacyError: a file cannot be used; that is in the audit log too.
            AuditError: the audit log takes no line.
        """
        log = AuditLog(site.audit_file)
        with _told(log, "open"):
            policy = site_policy.read_policy(site.root / site_policy.POLICY_FILE)
            rule = privacy.stricter(privacy.read_rule(site.root / privacy.PRIVACY_FILE), asked)
        return cls(site, policy, rule, PrivacyLedger(site.root / PRIVACY_FOLDER, epsilon_of), log)

    def gives(self, cases: list[str]) -> str | None:
        """Why the site only receives, as a sentence; None if it may give.

        Args:
            cases: names of its training cases.

        Raises:
            PolicyError: a case without consent: then nothing leaves.
        """
        with _told(self.log, "update"):
            if self.policy.consent:
                tags = site_policy.read_consent(self.site.root / site_policy.CONSENT_FILE)
                self.policy.check_consent(cases, tags)
        return self.policy.too_few_cases(len(cases))

    def update(self, state: AdapterState, version: str) -> AdapterState:
        """The shared adapters as they may leave. The same version is released once: sent again it is the same numbers, at no cost.

        Raises:
            BudgetSpentError: the site only receives.
            PolicyError, PrivacyError: nothing may leave.
        """
        with _told(self.log, "update"):
            self.policy.check_tensors(spec.name for spec in state.schema.tensors)
            if self.rule is None:
                return state
            key = release_key("update", version, state.schema.id, self.rule.clip, self.rule.noise)
            released = self._released(key, state.to_vector(), self.rule.clip)
            size, norm = state.schema.size, sgca.norm(state)
            if self.rule.drowns(size, norm):  # said here, at the site: a norm is a figure of its data
                _log.warning("Privacy rule: %s", self.rule.price(size, norm))
            return AdapterState.from_vector(state.schema, released)

    def probe_allowed(self) -> None:
        """Raises PolicyError or PrivacyError if no probe may leave; asked before the network is started."""
        with _told(self.log, "probe_reply"):
            self.policy.check_now(self.now())
            self.policy.check_probe()
            if self.rule is not None and not self.rule.probe:
                raise PrivacyError("Its privacy rule lets no gradient probe leave: without one it is sent the mean over all.")

    def probe(
        self, a: NDArray[np.float32], b: NDArray[np.float32], *, request: bytes, federation: str, round: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The two halves (p,) as they may leave. Both together are one release of its own; the same request again, the same numbers.

        Raises:
            BudgetSpentError, PolicyError, PrivacyError: nothing may leave.
        """
        self.probe_allowed()
        if self.rule is None:
            return a, b
        with _told(self.log, "probe_reply"):
            digest = hashlib.sha256(request).hexdigest()
            key = release_key("probe", federation, round, digest, self.rule.noise)
            both = self._released(key, np.concatenate([a, b]), privacy.HALF_NORM)
            return both[: len(a)], both[len(a) :]

    def leaves(self, purpose: str, payload: bytes, *, values: int, round: int, sent: Mapping[str, int]) -> None:
        """The message may leave: it is in the audit log when this returns.

        Args:
            purpose: `update` or `probe_reply`.
            values: numbers in it.
            sent: purpose -> bytes of the same round that left already.

        Raises:
            PolicyError: too many bits or bytes, or outside the hours.
            AuditError: the log took no line.
        """
        with _told(self.log, purpose):
            self.policy.check_now(self.now())
            self.policy.check_message(purpose, len(payload), values, sent)
        digest, spent = hashlib.sha256(payload).hexdigest(), self.spent()
        self.log.record("message_left", purpose=purpose, round=round, bytes=len(payload), sha256=digest, epsilon=spent)

    def verdict(self, fields: Mapping[str, str], round: int) -> dict[str, str]:
        """The gate's verdict as it may leave; it is in the audit log when this returns.

        Under a privacy rule, or where the policy keeps figures, only the word itself leaves: Dice scores and version ids (digests of the
        adapters) are figures of the site's data. The word is not covered by ε.

        Args:
            fields: `verdict` and what else would be said.

        Raises:
            AuditError: the log took no line.
        """
        open_hearted = self.rule is None and self.policy.figures
        told = dict(fields) if open_hearted else {"verdict": fields["verdict"], "reason": WITHHELD}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        self.log.record("message_left", purpose="verdict", round=round, bytes=sum(map(len, told.values())), sha256=digest)
        return told

    def _released(self, key: str, vector: NDArray[np.float32], clip: float) -> NDArray[np.float32]:
        rule = self.rule
        if rule is None:
            raise PrivacyError("There is no privacy rule to release by.")
        with failing_closed("The privacy step"):
            released = self.ledger.release(
                key,
                noise=rule.noise,
                epsilon=rule.epsilon,
                delta=rule.delta,
                make=lambda: privacy.noised(vector, clip, rule.noise, self.entropy),
            )
            if released.shape != vector.shape or not np.isfinite(released).all():
                raise PrivacyError("The noised numbers are not those of this layout, or not finite: nothing leaves.")
        return released

    def spent(self) -> float | None:
        """ε spent so far at the rule's δ, rounded up; None without a rule. Raises PrivacyError."""
        return None if self.rule is None else round_up(self.ledger.epsilon(self.rule.delta))


def round_up(value: float) -> float:
    """ε with four digits after the point, never less than it is."""
    return float(np.ceil(value * 1e4) / 1e4)


@contextmanager
def _told(log: AuditLog, purpose: str) -> Iterator[None]:
    """A refusal inside is a line of the audit log before it goes on."""
    try:
        yield
    except (PolicyError, PrivacyError) as error:
        log.record("sharing_refused", purpose=purpose, reason=str(error))
        raise
