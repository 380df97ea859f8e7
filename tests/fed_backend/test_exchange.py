"""Sending and waiting with a deadline."""

from collections.abc import Iterable

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fed_backend.exchange import exchange, fields_of, to_content, wait_for_nodes
from fed_backend.in_process_grid import InProcessGrid, InProcessNode
from tests.fed_backend.toy_sites import FakeClock

echo = ClientApp()


@echo.train()
def _echo(message: Message, context: Context) -> Message:
    if context.node_config.get("broken"):
        raise ValueError("broken")
    return Message(to_content(fields_of(message) | {"node": context.node_id}), reply_to=message)


class UnreliableGrid(InProcessGrid):
    """Loses what goes to node 2, and cannot send to node 3 at all."""

    def deliver(self, node_id: int, message: Message) -> Message | None:
        return None if node_id == 2 else super().deliver(node_id, message)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        ids = list(super().push_messages([message for message in messages if message.metadata.dst_node_id != 3]))
        return [*ids, *[None] * (len(messages) - len(ids))]  # type: ignore[list-item]  # as Flower's grid does


def _messages(nodes: Iterable[int]) -> list[Message]:
    return [Message(to_content({"payload": b"x", "count": 3}), node, "train", ttl=5.0) for node in nodes]


def test_all_answer_without_waiting() -> None:
    clock = FakeClock()
    grid = InProcessGrid(echo, [InProcessNode(), InProcessNode()])
    replies = exchange(grid, _messages([1, 2]), seconds=10, clock=clock)
    assert sorted(int(fields_of(reply)["node"]) for reply in replies) == [1, 2]
    assert fields_of(replies[0])["payload"] == b"x"
    assert clock.now == 0


def test_lost_and_unsendable_messages_end_with_the_deadline() -> None:
    clock = FakeClock()
    grid = UnreliableGrid(echo, [InProcessNode()] * 3)
    replies = exchange(grid, _messages([1, 2, 3]), seconds=10, clock=clock)
    assert [fields_of(reply)["node"] for reply in replies] == [1]
    assert clock.now == pytest.approx(10)
    assert exchange(grid, _messages([3]), seconds=10, clock=clock) == []
    assert clock.now == pytest.approx(10)  # nothing was under way


def test_an_error_is_a_reply() -> None:
    grid = InProcessGrid(echo, [InProcessNode({"broken": True})])
    (reply,) = exchange(grid, _messages([1]), seconds=10, clock=FakeClock())
    assert reply.has_error()
    assert "broken" in reply.error.reason
    assert fields_of(reply) == {}


def test_no_messages_no_wait() -> None:
    clock = FakeClock()
    assert exchange(InProcessGrid(echo, []), [], seconds=10, clock=clock) == []
    assert clock.now == 0


def test_content_of_another_kind_has_no_fields() -> None:
    InProcessGrid(echo, [])  # sets the identity that a Message needs
    assert fields_of(Message(RecordDict(), 1, "train")) == {}


def test_waiting_for_nodes_has_a_deadline() -> None:
    clock = FakeClock()
    grid = InProcessGrid(echo, [InProcessNode(registered="A"), InProcessNode()])
    nodes = wait_for_nodes(grid, wanted=2, seconds=5, clock=clock)
    assert [(node.node_id, node.name, node.HasField("name")) for node in nodes] == [(1, "A", True), (2, "", False)]
    assert clock.now == 0
    assert len(wait_for_nodes(grid, wanted=3, seconds=5, clock=clock)) == 2
    assert clock.now == pytest.approx(5)
