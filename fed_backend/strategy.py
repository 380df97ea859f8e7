"""SGCA as a Flower strategy: turns Flower's messages into `federated_round`'s answers and back. No decision is made here. No torch.

One round is three exchanges, each with a deadline of its own:

    train           "update"    the site's shared B and its number of cases
    query.probe     "probe"     two gradient halves at the common state, when a probe is due
    evaluate        "mixture"   the site's own mixture out, the gate's verdict back; "refused" tells a refused node why

`Strategy.start` knows two exchanges and one deadline, so it is replaced. Flower's own arrays and metrics stay empty: payloads are bytes of
the project's wire format (see `wire`), and results are the server's state file and the round reports.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common import log
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from fed_backend import server_state_file
from fed_backend.audit_anchors import ANCHOR_FIELD, anchor_in, record_round, server_log
from fed_backend.exchange import SYSTEM_CLOCK, Clock, exchange, fields_of, to_content, wait_for_nodes
from fed_backend.federated_round import FederatedRound
from fed_backend.round_report import RoundReport
from fed_backend.run_config import FederationSettings
from fed_backend.schedule.book import told_next_round
from fed_backend.server_state import ServerState
from fed_backend.site_answer import SiteAnswer, Value
from sam_adapters.errors import SettingError

PROBE = f"{MessageType.QUERY}.probe"
NO_ANSWER = "It did not answer before the deadline."
# A request that has expired comes back as an error of the SuperLink's, whose words are about its database.
_SAID = {
    ErrorCode.MESSAGE_UNAVAILABLE: NO_ANSWER,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "Its answer did not arrive whole before the deadline.",
    ErrorCode.NODE_UNAVAILABLE: "Its SuperNode went away before it had answered.",
}


class SgcaStrategy(Strategy):  # type: ignore[misc]  # flwr is not followed by the type checker
    """Rounds of similarity-guided collaborative aggregation over one state folder."""

    def __init__(
        self, state: ServerState, settings: FederationSettings, state_folder: Path, *, run: str = "", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """
        Args:
            state: what is known from earlier rounds; `state` keeps the present one.
            settings: quorum, deadlines and SGCA's caution.
            state_folder: where the state file and the round reports go; it exists.
            run: Flower's run id, for the reports.
            clock: of the waits.
        """
        self.state = state
        self.reports: list[RoundReport] = []
        self._settings = settings
        self._folder = state_folder
        self._run = run
        self._clock = clock
        self._round = self._new_round()
        self._nodes: dict[int, NodeInfo] = {}
        self._asked: list[Message] = []
        self._next_round = ""
        self._anchors: dict[str, str] = {}

    def summary(self) -> None:
        """Log what this federation has agreed on."""
        schema, settings = self.state.schema, self._settings
        log(INFO, "Federation %s (%s), %s finished rounds", settings.federation, self.state.federation, self.state.round)
        log(INFO, "Base %s, layout %s: %s shared values", schema.base[:16], schema.id, schema.size)
        log(INFO, "Quorum %s sites, probe every %s rounds, caution %s", settings.min_sites, settings.probe_every, settings.caution)

    def start(self, grid: Grid, initial_arrays: ArrayRecord | None = None, num_rounds: int = 1, **_: Any) -> Result:
        """Run `num_rounds` rounds; `reports` then holds what happened. Other arguments of Flower's `start` have no meaning here."""
        self.summary()
        for _round in range(num_rounds):
            self.run_round(grid)
        return Result()

    def run_round(self, grid: Grid) -> RoundReport:
        """Run one round to its end, whatever the sites do."""
        self._round = current = self._new_round()
        self._next_round = told_next_round(self._folder)
        report, settings, number = current.report, self._settings, current.number
        log(INFO, "[ROUND %s]", number)
        with self._timed("join"):
            nodes = wait_for_nodes(
                grid, wanted=max(settings.min_sites, settings.expected_sites), seconds=settings.join_seconds, clock=self._clock
            )
            self._nodes = {node.node_id: node for node in nodes}
        with self._timed("update"):
            self.aggregate_train(number, self._ask(grid, self.configure_train(number), settings.update_seconds))
        reason = current.too_few()
        if reason is not None:
            log(WARNING, "%s", reason)
            with self._timed("mixture"):
                self._ask(grid, self._notices(settings.update_seconds), settings.update_seconds)
            current.skip(reason)
            return self._close()
        with self._timed("probe"):
            self.aggregate_probe(self._ask(grid, self.configure_probe(), settings.probe_seconds))
        with self._timed("mixture"):
            messages = list(self.configure_evaluate(number))
            report.save(self._folder)
            self.aggregate_evaluate(number, self._ask(grid, messages, settings.mixture_seconds))
        report.save(self._folder)  # before the state says that the round is behind it: a kill in between loses no verdict
        current.finish()
        return self._close()

    # --- the three exchanges ----------------------------------------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord | None = None, config: ConfigRecord | None = None, grid: Grid | None = None
    ) -> Iterable[Message]:
        """Ask every connected node for its update."""
        for node in self._nodes:
            yield self._message(node, MessageType.TRAIN, {"kind": "update"}, self._settings.update_seconds)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Accept or refuse the updates."""
        self._round.take_updates(self._answers(replies))
        self._log_refusals("update")
        return None, None

    def configure_probe(self) -> Iterable[Message]:
        """Ask every member for its gradients at the common state, if a probe is due."""
        for site, payload in self._round.probe_requests().items():
            fields: dict[str, Value] = {"kind": "probe", "payload": payload}
            yield self._message(self._round.members[site], PROBE, fields, self._settings.probe_seconds)

    def aggregate_probe(self, replies: Iterable[Message]) -> None:
        """Compare the sites."""
        if self._asked:
            self._round.take_probe_replies(self._answers(replies))
            self._log_refusals("probe")

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord | None = None, config: ConfigRecord | None = None, grid: Grid | None = None
    ) -> Iterable[Message]:
        """Send every member its mixture, and tell refused nodes why they get none."""
        seconds = self._settings.mixture_seconds
        for site, payload in self._round.mixtures().items():
            fields: dict[str, Value] = {"kind": "mixture", "payload": payload}
            yield self._message(self._round.members[site], MessageType.EVALUATE, fields, seconds)
        yield from self._notices(seconds)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Write the verdicts down."""
        self._round.take_verdicts(self._answers(replies))
        self._log_refusals("mixture")
        for site, verdict in self._round.report.verdicts.items():
            log(INFO, "%s: %s. %s", site, verdict.verdict, verdict.reason)
        return None

    # --- inside -----------------------------------------------------------------------------------------------------------------------

    def _new_round(self) -> FederatedRound:
        return FederatedRound(self.state, self._settings, run=self._run, save=self._save, folder=self._folder)

    def _save(self, state: ServerState) -> None:
        server_state_file.save(state, self._folder / server_state_file.STATE_FILE)

    def _close(self) -> RoundReport:
        report = self._round.report
        report.save(self._folder)
        record_round(server_log(self._folder), report, self._anchors)
        self._anchors = {}
        self.state = self._round.state
        self.reports.append(report)
        log(INFO, "[ROUND %s] %s after %.1f s", report.round, report.status, report.seconds["total"])
        return report

    def _message(self, node: int, message_type: str, fields: dict[str, Value], seconds: float) -> Message:
        """A message that expires with its deadline, so that a site that comes back later does not work through old requests."""
        schema = self.state.schema
        common: dict[str, Value] = {
            "federation": self.state.federation,
            "name": self._settings.federation,
            "round": self._round.number,
            "base": schema.base,
            "schema": schema.id,
            "encoding": self._settings.encoding,
            ANCHOR_FIELD: server_log(self._folder).head(),
        }
        rule = self._settings.privacy_rule()
        if rule is not None:
            common["privacy"] = json.dumps(asdict(rule))
        if self._next_round:
            common["next_round"] = self._next_round
        return Message(to_content(common | fields), node, message_type, ttl=seconds, group_id=str(self._round.number))

    def _notices(self, seconds: float) -> Iterator[Message]:
        """Why refused nodes get no mixture."""
        for node, reason in self._round.refused.items():
            yield self._message(node, MessageType.EVALUATE, {"kind": "refused", "reason": reason}, seconds)

    def _ask(self, grid: Grid, messages: Iterable[Message], seconds: float) -> list[Message]:
        self._asked = list(messages)
        return exchange(grid, self._asked, seconds=seconds, clock=self._clock)

    def _answers(self, replies: Iterable[Message]) -> list[SiteAnswer]:
        """One answer for every message that was sent last, lost ones among them."""
        by_request = {reply.metadata.reply_to_message_id: reply for reply in replies}
        return [self._answer(message.metadata.dst_node_id, by_request.get(message.metadata.message_id)) for message in self._asked]

    def _answer(self, node: int, reply: Message | None) -> SiteAnswer:
        registered = self._registered(node)
        if reply is None:
            return SiteAnswer(node, registered, error=NO_ANSWER)
        if reply.has_error():
            return SiteAnswer(node, registered, error=_SAID.get(reply.error.code) or f"Its client failed: {reply.error.reason}")
        answer = SiteAnswer(node, registered, fields_of(reply))
        anchor = anchor_in(answer.fields)
        if anchor is not None:
            with suppress(SettingError):  # a name that cannot be used is refused with its update
                self._anchors[answer.site()] = anchor
        return answer

    def _registered(self, node: int) -> str | None:
        """The name an operator registered the node under; without node authentication there is none."""
        info = self._nodes[node]
        return str(info.name) if info.HasField("name") and info.name else None

    def _log_refusals(self, phase: str) -> None:
        for refusal in self._round.report.refusals:
            if refusal.phase == phase:
                log(WARNING, "%s (%s): %s", refusal.site, refusal.phase, refusal.reason)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = self._clock.monotonic()
        try:
            yield
        finally:
            self._round.report.seconds[phase] = round(self._clock.monotonic() - start, 3)
