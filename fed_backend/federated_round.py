"""The decisions of one federated round, without Flower: who is heard, who is refused, who gets what, what is written down.

    round = FederatedRound(state, settings, run="…", save=…)
    round.take_updates(answers)            -> some sites are members of this round, others refused with a reason
    round.too_few()                        -> a sentence if there is no quorum: then round.skip(sentence)
    requests = round.probe_requests()      -> site -> bytes; empty if no probe is due
    round.take_probe_replies(answers)
    mixtures = round.mixtures()            -> site -> bytes
    round.take_verdicts(answers)
    state = round.finish()

The state is saved after the updates, after the probe and at the end. A server that was killed in between runs the same round again: what
was saved is kept, and sites that have decided on this round's mixture say again what they decided. One thread, no locks.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from fed_backend import server_state, wire
from fed_backend.errors import AggregationError, WireError
from fed_backend.payload_codec import Encoding
from fed_backend.plausibility import Halves
from fed_backend.projection import project
from fed_backend.round_judge import RoundJudge
from fed_backend.round_report import Phase, RoundReport, SiteLine, Verdict, now, numbers
from fed_backend.run_config import FederationSettings
from fed_backend.server_state import MixturePlan, RoundEntry, ServerState
from fed_backend.site_answer import SiteAnswer
from fed_backend.wire_budget import mixture_limit, probe_request_limit
from sam_adapters.errors import SettingError

VERDICTS = ("promoted", "rejected", "waiting", "unchanged")


class FederatedRound:
    """One round. See the module for the order of calls.

    Attributes:
        number: the round's number.
        state: the server's state, as it is at this moment.
        report: what has happened so far.
        members: site -> node, of the sites whose update was accepted.
        refused: node -> reason, of nodes that did answer; they get no mixture and are told why.
    """

    def __init__(
        self,
        state: ServerState,
        settings: FederationSettings,
        *,
        run: str,
        save: Callable[[ServerState], None],
        folder: Path | None = None,
    ) -> None:
        self.state = state
        self.number = state.round + 1
        self._judge = RoundJudge(state, self.number, folder)
        self.members: dict[str, int] = {}
        self.refused: dict[int, str] = {}
        self.report = RoundReport(
            federation=state.federation,
            name=settings.federation,
            round=self.number,
            run=run,
            base=state.schema.base,
            schema=state.schema.id,
        )
        self._settings = settings
        self._save = save
        self._encoding = cast(Encoding, settings.encoding)
        self._plain: set[str] = set()  # members that speak version 1 of the wire format
        self._receivers: set[str] = set()  # members that gave nothing, of which an earlier update is known
        self._request: wire.ProbeRequest | None = None
        self._requests: dict[str, bytes] = {}
        self._probed: tuple[str, ...] = ()
        self._plan: MixturePlan | None = None

    # --- updates ----------------------------------------------------------------------------------------------------------------------

    def take_updates(self, answers: Sequence[SiteAnswer]) -> None:
        """Accept or refuse every update; afterwards `members` and `refused` are complete."""
        for site, same_name in self._by_site(answers).items():
            if len(same_name) > 1:
                labels = ", ".join(f"node {answer.node}" for answer in same_name)
                for answer in same_name:
                    self._refuse(
                        answer, site, f"{len(same_name)} nodes ({labels}) call themselves {site}: give every site a name of its own."
                    )
                continue
            self._take_update(site, same_name[0])
        self._save(self.state)
        self._reject(self._judge.together(self.state, self._givers()))

    def _by_site(self, answers: Sequence[SiteAnswer]) -> dict[str, list[SiteAnswer]]:
        """Answers by site; what has no usable name or is an error is refused under its node's label."""
        found: dict[str, list[SiteAnswer]] = {}
        for answer in answers:
            if answer.error:
                self.report.refuse(answer.label, "update", answer.error)
                continue
            try:
                found.setdefault(answer.site(), []).append(answer)
            except SettingError as error:
                declined = answer.text("refusal")  # a site that cannot read its own settings does not know its name
                self._refuse(answer, answer.label, f"The site declined: {declined}" if declined else str(error))
        return found

    def _take_update(self, site: str, answer: SiteAnswer) -> None:
        if "refusal" in answer.fields:
            self._refuse(answer, site, f"The site declined: {answer.text('refusal')}")
            return
        own_name = answer.text("site")
        if own_name != site:
            self._refuse(answer, site, f"It calls itself {own_name!r} but is registered as {site}: set `name` in its site.json to {site}.")
            return
        self.report.count_bytes(site, "update", answer.payload)
        note = ""
        try:
            known = self.state.sites.get(site)
            references = [known.state] if known else []
            update = wire.decode_update(answer.payload, self.state.schema, site=site, round=self.number, references=references)
            version = wire.message_version(answer.payload)
            if answer.text("receives_only") and known is not None:
                self._receivers.add(site)  # what it gave before stays, and ages
            else:
                note = self._take_state(update, version, is_noised=answer.number("epsilon", 1e6) is not None)
        except (WireError, AggregationError) as error:
            self._refuse(answer, site, str(error))
            return
        self.members[site] = answer.node
        if version == wire.PLAIN_VERSION:
            self._plain.add(site)
        self.report.sites[site] = SiteLine(
            update.cases,
            answer.text("version"),
            receives_only=answer.text("receives_only"),
            epsilon=answer.number("epsilon", 1e6),
            delta=answer.number("delta", 1.0),
            note=note,
        )
        self._note_seconds(site, "update", answer)

    def _take_state(self, update: wire.UpdateMessage, version: int, *, is_noised: bool) -> str:
        """Take the adapters of an update; returns what is remarkable about them.

        Raises:
            AggregationError: they are refused.
        """
        reason = self._judge.update(update, is_noised=is_noised)
        if reason:
            raise AggregationError(reason)
        seen = self._judge.first_seen(update.site)
        self.state = server_state.with_update(self.state, update, wire=version, first_seen=seen)
        return "" if seen is None else f"It went back to the adapters that it sent in round {seen}: they count as old as that."

    def _givers(self) -> list[str]:
        """The members that gave adapters in this round."""
        return [site for site in self.members if site not in self._receivers]

    def _reject(self, found: Mapping[str, str]) -> None:
        """Refuse members whose update turned out not to be plausible."""
        for site, reason in found.items():
            self.report.refuse(site, "update", reason)
            self.refused[self.members.pop(site)] = reason
            self.report.sites.pop(site, None)

    def _refuse(self, answer: SiteAnswer, site: str, reason: str) -> None:
        self.report.refuse(site, "update", reason)
        self.refused[answer.node] = reason

    def too_few(self) -> str | None:
        """Why the round cannot go on, as a sentence; None if there is a quorum."""
        heard, needed = len(self.members), self._settings.min_sites
        if heard >= needed:
            return None
        return f"{heard} of at least {needed} sites took part ({len(self.report.refusals)} refused or lost): the round was skipped."

    # --- probe ------------------------------------------------------------------------------------------------------------------------

    def probe_requests(self) -> dict[str, bytes]:
        """What every member is sent; nothing when no probe is due."""
        if not server_state.probe_due(self.state, self.number, self.members):
            return {}
        request = wire.ProbeRequest(
            round=self.number,
            state=server_state.common_state_of(self.state, self.number, withheld=self._judge.withheld(self.state)),
            seed=probe_seed(self.state.federation, self.number),
            size=self._settings.projection_size,
        )
        coded = wire.encode_probe_request(request, wire.Coding(self._encoding, probe_request_limit(self._encoding, self.state.schema.size)))
        # The state that the sites decode is the common one, whatever was meant.
        self._request = wire.decode_probe_request(coded, self.state.schema)
        plain = wire.encode_probe_request(self._request) if self._plain else b""
        self._requests = {site: plain if site in self._plain else coded for site in self.members}
        return self._requests

    def take_probe_replies(self, answers: Sequence[SiteAnswer]) -> None:
        """Compare the sites that answered. One that did not, or has too little to compare, keeps what is known of it and its membership."""
        replies: dict[str, wire.ProbeReply] = {}
        for site, answer in self._member_answers(answers, "probe"):
            self.report.count_bytes(site, "probe_request", self._requests.get(site, b""))
            self.report.count_bytes(site, "probe_reply", answer.payload)
            self._note_seconds(site, "probe", answer)
            try:
                if self._request is None:
                    raise AggregationError("A probe reply without a request.")
                replies[site] = wire.decode_probe_reply(answer.payload, self._request, site=site)
            except (WireError, AggregationError) as error:
                self.report.refuse(site, "probe", str(error))
        self._judge_replies(replies)
        self.state = server_state.with_probe(self.state, self.number, replies)
        self._probed = tuple(replies)
        for site, reply in replies.items():
            self.report.sites[site].probe_cases = list(reply.cases)
        if self._request is not None:
            self.report.probe = {"seed": self._request.seed, "size": self._request.size, "sites": sorted(replies)}
        self._save(self.state)

    def _judge_replies(self, replies: dict[str, wire.ProbeReply]) -> None:
        """Take out of `replies` what no honest probe can be, and refuse those members."""
        request = self._request
        if request is None:
            return
        common = project(request.state.to_vector(), seed=request.seed, size=request.size)
        judged = {site: self._judge.reply(site, Halves(reply.half_a, reply.half_b, common)) for site, reply in replies.items()}
        found = {site: reason for site, reason in judged.items() if reason}
        for site in found:
            del replies[site]
        self._reject(found)

    # --- mixtures ---------------------------------------------------------------------------------------------------------------------

    def mixtures(self) -> dict[str, bytes]:
        """What every member is sent; also writes weights, distances and noise into the report."""
        seed = probe_seed(self.state.federation, self.number)
        believed = server_state.mutual_weights(
            self.state, self.number, caution=self._settings.caution, withheld=self._judge.withheld(self.state)
        )
        self._reject(self._judge.agreement(self.state, self._givers(), seed, believed))
        self._reject(self._judge.settle(self._givers()))
        withheld = self._judge.withheld(self.state)
        plan = server_state.plan_mixtures(self.state, self.number, list(self.members), caution=self._settings.caution, withheld=withheld)
        self._judge.sent(plan.mixtures)
        self._plan = plan
        self.report.givers = list(plan.givers)
        self.report.noise = numbers(plan.noise)
        self.report.distance = numbers(plan.distance)
        self.report.weights = {site: dict(row) for site, row in plan.weights.items()}
        payloads = {}
        for site in plan.mixtures:
            line = self.report.sites[site]
            line.newcomer, line.clipped = site in plan.newcomers, plan.clipped.get(site)
            message = wire.Mixture(site, self.number, plan.mixtures[site], _on_simplex(plan.weights[site]), site in plan.newcomers)
            payloads[site] = self._encoded_mixture(message)
            self.report.count_bytes(site, "mixture", payloads[site])
        return payloads

    def _encoded_mixture(self, message: wire.Mixture) -> bytes:
        """The mixture as the difference to what is nearest of the states that its receiver has; in full to a site that speaks version 1."""
        if message.site in self._plain:
            return wire.encode_mixture(message)
        update = self.state.sites[message.site].state
        shared = [] if message.site in self._receivers else [update]  # such a site has sent zeros, and remembers those
        if self._request and message.site in self._probed:
            shared.append(self._request.state)
        limit = mixture_limit(self._encoding, self.state.schema.size, probed=message.site in self._requests)
        coding = wire.Coding(self._encoding, limit, wire.nearest_reference(message.state, shared))
        return wire.encode_mixture(dataclasses.replace(message, acknowledged=wire.state_digest(update)), coding)

    def take_verdicts(self, answers: Sequence[SiteAnswer]) -> None:
        """Write down what the sites made of their mixtures."""
        for site, answer in self._member_answers(answers, "mixture"):
            self._note_seconds(site, "mixture", answer)
            verdict = answer.text("verdict")
            if verdict not in VERDICTS:
                self.report.refuse(site, "mixture", f"Its verdict is {verdict[:40]!r}, expected one of {', '.join(VERDICTS)}.")
                continue
            versions = {key: answer.text(key)[:64] for key in ("active_before", "candidate", "active_after")}
            self.report.verdicts[site] = Verdict(verdict, answer.text("reason"), figures=answer.figures(), **versions)

    def _member_answers(self, answers: Sequence[SiteAnswer], phase: Phase) -> list[tuple[str, SiteAnswer]]:
        """Site and answer of every member that answered; the others are reported."""
        site_of = {node: site for site, node in self.members.items()}
        good = []
        for answer in answers:
            site = site_of.get(answer.node)
            if site is None:
                continue  # an acknowledgement of a refused node
            if answer.error:
                self.report.refuse(site, phase, answer.error)
            elif "refusal" in answer.fields:
                self.report.refuse(site, phase, f"The site declined: {answer.text('refusal')}")
            else:
                good.append((site, answer))
        return good

    # --- end --------------------------------------------------------------------------------------------------------------------------

    def skip(self, reason: str) -> None:
        """End the round without mixtures. It keeps its number, and the accepted updates are remembered."""
        self._end("skipped", reason)

    def finish(self) -> None:
        """End the round."""
        self._end("finished", "")

    def _end(self, status: Any, reason: str) -> None:
        self.report.end(status, reason)
        entry = RoundEntry(
            round=self.number,
            run=self.report.run,
            finished=self.report.finished or now(),
            heard=tuple(self.members),
            refused={refusal.site: refusal.reason for refusal in self.report.refusals},
            probed=self._probed,
            clipped=dict(self._plan.clipped) if self._plan else {},
        )
        self.state = server_state.finish_round(self.state, entry, probe_every=self._settings.probe_every)
        self._save(self.state)

    def _note_seconds(self, site: str, phase: Phase, answer: SiteAnswer) -> None:
        value = answer.number("seconds", 1e7)
        if value is not None:
            self.report.sites[site].seconds[phase] = round(value, 3)


def probe_seed(federation: str, number: int) -> int:
    """The seed of a round's projection: another one every round, and the same one when a round is run again; 0 to 2^63 - 1."""
    return int.from_bytes(hashlib.sha256(f"{federation} probe {number}".encode()).digest()[:8], "big") >> 1


def _on_simplex(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights for the message's header, which takes none above 1: rounding may have put one there."""
    return {site: min(weight, 1.0) for site, weight in weights.items()}
