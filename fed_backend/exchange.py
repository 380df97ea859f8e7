"""Messages through any Flower grid: what they hold, and sending some and waiting for the replies. Every wait has a deadline.

One thread, no locks. The clock is injected, so that tests with a lost site wait no real time.

`Grid.send_and_receive` is not used: over HTTP it looks for replies every 3 s only, and it does not say which message was lost.
"""

import time
from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import Protocol

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common import log
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fed_backend.site_answer import Value

RECORD = "fedsca"  # the one record in every message
POLL_SECONDS = 0.25

Fields = Mapping[str, Value]


class Clock(Protocol):
    """What of `time` is used."""

    def monotonic(self) -> float:
        """Seconds from some start."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


SYSTEM_CLOCK: Clock = time


def to_content(fields: Fields) -> RecordDict:
    """`fields` as the content of a Flower message."""
    return RecordDict({RECORD: ConfigRecord(dict(fields))})


def fields_of(message: Message) -> dict[str, Value]:
    """Inverse of `to_content`; {} for a message that holds something else. Lists, which this protocol does not use, are left out."""
    if not message.has_content() or RECORD not in message.content.config_records:
        return {}
    return {key: value for key, value in message.content.config_records[RECORD].items() if not isinstance(value, list)}


def exchange(
    grid: Grid, messages: Sequence[Message], *, seconds: float, clock: Clock = SYSTEM_CLOCK, poll: float = POLL_SECONDS
) -> list[Message]:
    """Send messages and wait until each has its reply or `seconds` have passed.

    Returns:
        the replies that came, in no order, errors of clients among them. `reply.metadata.reply_to_message_id` says what each answers.
    """
    if not messages:
        return []
    deadline = clock.monotonic() + seconds
    pending = {message_id for message_id in grid.push_messages(messages) if message_id}  # None or missing: could not be sent
    replies: list[Message] = []
    while pending:
        for reply in grid.pull_messages(sorted(pending)):
            if reply.metadata.reply_to_message_id in pending:
                pending.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        left = deadline - clock.monotonic()
        if not pending or left <= 0:
            break
        clock.sleep(min(poll, left))
    return replies


def wait_for_nodes(grid: Grid, *, wanted: int, seconds: float, clock: Clock = SYSTEM_CLOCK, poll: float = POLL_SECONDS) -> list[NodeInfo]:
    """The connected nodes, as soon as there are `wanted` of them or `seconds` have passed; maybe fewer, maybe none."""
    deadline = clock.monotonic() + seconds
    while True:
        nodes = list(grid.get_nodes())
        left = deadline - clock.monotonic()
        if len(nodes) >= wanted:
            return nodes
        if left <= 0:
            log(WARNING, "%s of %s sites are connected after %.0f s.", len(nodes), wanted, seconds)
            return nodes
        clock.sleep(min(poll, left))
