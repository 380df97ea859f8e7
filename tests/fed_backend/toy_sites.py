"""Sites for rounds without a network: a Flower ClientApp that plays all of them, and a grid in which time passes only by waiting."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fed_backend import site_memory, wire
from fed_backend.exchange import fields_of, to_content
from fed_backend.in_process_grid import InProcessGrid, InProcessNode
from fed_backend.site_answer import Value
from fed_backend.site_memory import SiteMemory
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
    is_plain: bool = True  # speaks version 1 of the wire format, whatever it is asked for
    memory: SiteMemory | None = None

    def answer(self, request: dict[str, Value]) -> dict[str, Value]:
        kind, number = str(request["kind"]), int(request["round"])
        self.asked.append(kind)
        if kind == "update":
            return {"payload": self._update(request, wire.UpdateMessage(self.name, number, self.cases, self.state)), "version": "base"}
        if kind == "probe":
            payload = request["payload"]
            assert isinstance(payload, bytes)
            probe = wire.decode_probe_request(payload, self.schema)
            half = np.zeros(probe.size, np.float32)
            half[: len(self.gradient)] = self.gradient
            noise = np.zeros(probe.size, np.float32)
            noise[-1] = 0.1
            reply = wire.ProbeReply(self.name, number, probe.seed, (2, 2), half + noise, half - noise)
            if self.memory:
                self.memory = site_memory.with_common(self.memory, number, probe.state)
            return {"payload": wire.encode_probe_reply(reply, None if self.is_plain else wire.Coding("int8"))}
        if kind == "mixture":
            payload = request["payload"]
            assert isinstance(payload, bytes)
            known = site_memory.references(self.memory, number) if self.memory else []
            self.received[number] = mixture = wire.decode_mixture(payload, self.schema, site=self.name, round=number, references=known)
            if self.memory:
                self.memory = site_memory.acknowledged(self.memory, number, mixture.acknowledged)
            figures = json.dumps({"overall": {"candidate": 0.75}})
            return {"verdict": "promoted", "reason": "It is better.", "candidate": "c" * 16, "figures": figures}
        self.told.append(str(request["reason"]))
        if self.memory:
            self.memory = site_memory.acknowledged(self.memory, number, "")
        return {"noted": True}

    def _update(self, request: dict[str, Value], message: wire.UpdateMessage) -> bytes:
        encoding = request["encoding"]
        if self.is_plain or (encoding != "fp16" and encoding != "int8"):
            return wire.encode_update(message)
        memory = self.memory or site_memory.empty(str(request["federation"]), self.schema)
        payload, self.memory = site_memory.encode(memory, message, encoding)
        return payload


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
