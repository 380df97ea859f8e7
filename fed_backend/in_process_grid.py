"""A Flower grid in one process and one thread: messages go straight into a ClientApp. For tests and benchmarks.

It sets Flower's process-wide task identity, which is private to Flower: hence the pinned version. At most one such grid at a time.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1


@dataclass(frozen=True)
class InProcessNode:
    """One connected site.

    Attributes:
        node_config: as `flower-supernode --node-config` would give it, e.g. {"site": "A", "site-directory": "/…/A"}.
        registered: the name under which node authentication knows it; None for an insecure federation.
    """

    node_config: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    registered: str | None = None


class InProcessGrid(Grid):  # type: ignore[misc]  # flwr is not followed by the type checker
    """Runs a ClientApp for every message at the moment it is pushed. Node ids are 1, 2, … in the order of `nodes`."""

    def __init__(self, app: ClientApp, nodes: Sequence[InProcessNode]) -> None:
        self._app = app
        self._nodes = dict(enumerate(nodes, start=1))
        self._numbers = itertools.count(1)
        self._replies: dict[str, Message] = {}
        self._run: Run | None = None
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN_ID, 1, 0

    def deliver(self, node_id: int, message: Message) -> Message | None:
        """The node's reply to a message, or None if it stays silent. A subclass may lose or change messages here."""
        node = self._nodes[node_id]
        context = Context(run_id=RUN_ID, node_id=node_id, node_config=dict(node.node_config), state=RecordDict(), run_config={})
        TaskIdentity.node_id = node_id
        try:
            return self._app(message, context)
        except Exception as error:
            # As Flower's own client process does: whatever an app raises becomes an error reply.
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error)}:<'{error}'>"), reply_to=message)
        finally:
            TaskIdentity.node_id = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message_id = f"message-{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = message_id
            reply = self.deliver(message.metadata.dst_node_id, message)
            if reply is not None:
                self._replies[message_id] = reply
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(list(self.push_messages(messages)))

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=number, name=node.registered) for number, node in self._nodes.items()]

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Any:
        return self._run
