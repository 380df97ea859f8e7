"""A hospital's side of a run, as Flower starts it: one process a message. Thin: messages in, `client_site`, messages out.

The node's configuration says where the site is: `site` (name), `site-directory` and, if it is elsewhere, `studies`. `fedsca site join`
sets them; the paths never leave the machine.

Whatever goes wrong at a site comes back as a sentence in the reply (`refusal`), so that the operator reads it in the round's report; paths
and names of cases are taken out of it.
"""

import json
import time
from collections.abc import Callable
from logging import ERROR, INFO
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common import log

from fed_backend import client_site
from fed_backend.audit_anchors import ANCHOR_FIELD, SERVER_ANCHOR, anchor_in
from fed_backend.errors import PrivacyError, RoundError
from fed_backend.exchange import Fields, fields_of, to_content
from fed_backend.member import Member, RoundInfo
from fed_backend.outgoing import Door
from fed_backend.payload_codec import ENCODINGS
from fed_backend.privacy import PrivacyRule, rule_from
from fed_backend.redaction import public_figures, redacted
from fed_backend.site_answer import Value
from sam_adapters.audit import AuditLog
from sam_adapters.errors import FedscaError

app = ClientApp()
Answer = Callable[[Member, RoundInfo, Fields], dict[str, Value]]


@app.train()  # type: ignore[untyped-decorator]  # flwr is not followed by the type checker
def update(message: Message, context: Context) -> Message:
    """Answer with the shared B and the case count."""
    return _reply(message, context, _update)


@app.query("probe")  # type: ignore[untyped-decorator]
def probe(message: Message, context: Context) -> Message:
    """Answer with the two gradient halves."""
    return _reply(message, context, _probe)


@app.evaluate()  # type: ignore[untyped-decorator]
def mixture(message: Message, context: Context) -> Message:
    """Take the mixture and answer with the gate's verdict; or take note of a refusal."""
    return _reply(message, context, _mixture)


def _update(member: Member, info: RoundInfo, fields: Fields) -> dict[str, Value]:
    anchor = anchor_in(fields)
    if anchor is not None:
        AuditLog(member.site.audit_file).record(SERVER_ANCHOR, who=info.name, anchor=anchor, round=info.round)
    reply = client_site.collect_update(member, info)
    said: dict[str, Value] = {"version": reply.version, "cases": reply.cases, "receives_only": reply.receives_only}
    if reply.epsilon is not None and reply.delta is not None:
        said |= {"epsilon": reply.epsilon, "delta": reply.delta}
    return {"payload": reply.payload, **said}


def _probe(member: Member, info: RoundInfo, fields: Fields) -> dict[str, Value]:
    return {"payload": client_site.answer_probe(member, info, _payload(fields))}


def _mixture(member: Member, info: RoundInfo, fields: Fields) -> dict[str, Value]:
    if fields.get("kind") == "refused":
        client_site.note_refusal(member, info, str(fields.get("reason", "")))
        return {"noted": True}
    door = Door.open(member.site, info.privacy)  # first: with a broken policy nothing leaves, this verdict neither
    reply = client_site.receive_mixture(member, info, _payload(fields))
    verdict = {
        "verdict": reply.verdict,
        "reason": redacted(reply.reason, member.site),
        "active_before": reply.active_before,
        "candidate": reply.candidate,
        "active_after": reply.active_after,
        "figures": public_figures(reply.figures),
    }
    return dict(door.verdict(verdict, info.round))


def _reply(message: Message, context: Context, answer: Answer) -> Message:
    """Do what was asked; an error becomes a reply that says why."""
    start = time.monotonic()
    fields: dict[str, Value] = {}
    try:
        request = fields_of(message)
        member = _member(context)
        fields["site"] = member.name
        fields |= _answered(answer, member, request, context)
        fields[ANCHOR_FIELD] = AuditLog(member.site.audit_file).head()
    except FedscaError as error:  # there is no site to speak of
        log(ERROR, "%s", error)
        fields["refusal"] = "Its site directory or the message cannot be used: see the SuperNode's output."
    fields["seconds"] = time.monotonic() - start
    log(INFO, "Answered %s in %.2f s.", message.metadata.message_type, fields["seconds"])
    return Message(to_content(fields), reply_to=message)


def _answered(answer: Answer, member: Member, request: Fields, context: Context) -> dict[str, Value]:
    """The answer, or why there is none; the full error stays in this machine's log."""
    try:
        info = _info(request, context)
        client_site.note_heard(member, info)
        return answer(member, info, request)
    except FedscaError as error:
        log(ERROR, "%s", error)
        return {"refusal": redacted(str(error), member.site)}
    except Exception as error:
        log(ERROR, "The round failed at this site.", exc_info=error)
        return {"refusal": redacted(f"It failed with {type(error).__name__}: {error}", member.site)}


def _member(context: Context) -> Member:
    config = context.node_config
    directory, studies, name = config.get("site-directory"), config.get("studies"), config.get("site")
    if not isinstance(directory, str) or not directory:
        raise RoundError("The SuperNode's --node-config names no site-directory: start it with `fedsca site join`.")
    return Member.open(Path(directory), Path(str(studies)) if studies else None, str(name) if name else None)


def _info(request: Fields, context: Context) -> RoundInfo:
    values = {key: request.get(key) for key in ("federation", "name", "base", "schema")}
    number = request.get("round")
    if not all(isinstance(value, str) and value for value in values.values()) or type(number) is not int or number < 1:
        raise RoundError("The server's message lacks federation, name, round, base or schema: update the older side of the federation.")
    encoding = request.get("encoding")
    if encoding is not None and encoding not in ENCODINGS:
        raise RoundError(f"The server asks for encoding {encoding!r}, expected {' or '.join(ENCODINGS)}: update the older side.")
    texts = {key: str(value) for key, value in values.items()}
    planned = request.get("next_round")
    return RoundInfo(
        round=number,
        run=str(context.run_id),
        encoding=encoding,
        privacy=_asked(request),
        next_round=planned if isinstance(planned, str) else "",
        **texts,
    )


def _asked(request: Fields) -> PrivacyRule | None:
    """The privacy rule that the server asks for; one that cannot be read raises, so that nothing leaves."""
    text = request.get("privacy")
    if text is None:
        return None
    try:
        return rule_from(json.loads(str(text)), "The server's privacy rule")
    except ValueError as error:
        raise PrivacyError(f"The server's privacy rule cannot be read ({error}): nothing leaves.") from error


def _payload(fields: Fields) -> bytes:
    value = fields.get("payload")
    return value if isinstance(value, bytes) else b""
