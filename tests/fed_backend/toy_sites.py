"""Sites for rounds without a network: a Flower ClientApp that plays all of them, and a grid in which time passes only by waiting."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fed_backend import wire
from fed_backend.exchange import Value, fields_of, to_content
from fed_backend.in_process_grid import InProcessGrid, InProcessNode
from sam_adapters.schema import AdapterSchema, AdapterState
from tests.fed_backend.toys import SCHEMA

Changer = Callable[[dict[str, Value]], dict[str, Value] | None]


class FakeClock:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        assert seconds > 0
        self.now += seconds


@dataclass
class ToySite:
    """One site's memory: what it sends and what it got."""

    name: str
    state: AdapterState
    cases: int = 4
    gradient: tuple[float, ...] = (1.0, 0.0)
    schema: AdapterSchema = SCHEMA
    received: dict[int, wire.Mixture] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: dict[str, Value]) -> dict[str, Value]:
        kind, number = str(request["kind"]), int(request["round"])
        self.asked.append(kind)
        if kind == "update":
            return {"payload": wire.encode_update(wire.UpdateMessage(self.name, number, self.cases, self.state)), "version": "base"}
        if kind == "probe":
            payload = request["payload"]
            assert isinstance(payload, bytes)
            probe = wire.decode_probe_request(payload, self.schema)
            half = np.zeros(probe.size, np.float32)
            half[: len(self.gradient)] = self.gradient
            noise = np.zeros(probe.size, np.float32)
            noise[-1] = 0.1
            return {"payload": wire.encode_probe_reply(wire.ProbeReply(self.name, number, probe.seed, (2, 2), half + noise, half - noise))}
        if kind == "mixture":
            payload = request["payload"]
            assert isinstance(payload, bytes)
            self.received[number] = wire.decode_mixture(payload, self.schema, site=self.name, round=number)
            figures = json.dumps({"overall": {"candidate": 0.75}})
            return {"verdict": "promoted", "reason": "It is better.", "candidate": "c" * 16, "figures": figures}
        self.told.append(str(request["reason"]))
        return {"noted": True}


class ToyFederation(InProcessGrid):
    """Sites in one process. `change[name]` may alter a reply's fields, or lose it by returning None."""

    def __init__(self, sites: Sequence[ToySite], *, registered: Sequence[str | None] | None = None) -> None:
        self.sites = list(sites)
        self.change: dict[str, Changer] = {}
        names = registered or [None] * len(sites)
        super().__init__(self._app_of_all(), [InProcessNode({"index": index}, name) for index, name in enumerate(names)])

    def _app_of_all(self) -> ClientApp:
        app = ClientApp()

        def play(message: Message, context: Context) -> Message:
            site = self.sites[int(context.node_config["index"])]
            fields: dict[str, Value] = {"site": site.name, "seconds": 0.5}
            fields |= site.answer(fields_of(message))
            return Message(to_content(fields), reply_to=message)

        app.train()(play)
        app.query("probe")(play)
        app.evaluate()(play)
        return app

    def deliver(self, node_id: int, message: Message) -> Message | None:
        reply = super().deliver(node_id, message)
        change = self.change.get(self.sites[node_id - 1].name)
        if reply is None or change is None or not reply.has_content():
            return reply
        changed = change({**fields_of(reply), "asked": str(fields_of(message)["kind"])})
        return None if changed is None else Message(to_content(changed), reply_to=message)


def only(kind: str, change: Changer) -> Changer:
    """Apply `change` to replies to messages of one kind."""
    return lambda fields: change(fields) if fields["asked"] == kind else fields


def lose(fields: dict[str, Value]) -> dict[str, Value] | None:
    """A reply that never arrives."""
    return None


def reports_of(folder: Any) -> list[dict[str, Any]]:
    """Every round report in a state folder, by round."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "rounds").glob("round-*.json"))]
