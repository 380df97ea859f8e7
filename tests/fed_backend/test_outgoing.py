"""The last door: what leaves is noised, paid for and in the audit log; whatever fails, nothing leaves."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MessageType
from typer.testing import CliRunner

from fed_backend import client_app, client_site, outgoing, privacy, wire
from fed_backend.cli.federation import site_app
from fed_backend.errors import BudgetSpentError, PolicyError, PrivacyError
from fed_backend.exchange import fields_of, to_content
from fed_backend.in_process_grid import InProcessGrid, InProcessNode
from fed_backend.member import Member, RoundInfo, learnt_norm, site_schema
from fed_backend.outgoing import WITHHELD, Door
from fed_backend.privacy import PrivacyRule
from sam_adapters import atomic
from sam_adapters.audit import AuditLog
from sam_adapters.audit_chain import verify
from sam_adapters.errors import AuditError, FedscaError
from sam_adapters.probe import ProbeHalves
from sam_adapters.schema import AdapterSchema
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.site_fixture import add_version, make_site
from tests.fed_backend.toys import FULL_SIZE, toy_state

RULE = {"clip": 1.0, "noise": 2.0, "epsilon": 6.0}


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> SiteDirectory:
    return SiteDirectory.open(tmp_path / "site")


def write(site: SiteDirectory, name: str, value: object) -> None:
    (site.root / name).write_text(json.dumps(value), encoding="utf-8")


def events(site: SiteDirectory, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in site.audit_file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == event]


def test_without_a_rule_numbers_leave_as_they_are_and_are_written_down(site: SiteDirectory) -> None:
    door = Door.open(site)
    state = toy_state(0.5)
    assert door.update(state, "v1") is state
    door.leaves("update", b"x" * 200, values=6, round=3, sent={})
    (line,) = events(site, "message_left")
    assert (line["purpose"], line["round"], line["bytes"], line["epsilon"]) == ("update", 3, 200, None)
    assert len(line["sha256"]) == 64


def test_under_a_rule_a_version_is_released_once_and_stays_the_same(site: SiteDirectory) -> None:
    write(site, "privacy.json", RULE)
    state = toy_state(0.01, FULL_SIZE)
    first = Door.open(site).update(state, "v1").to_vector()
    again = Door.open(site).update(state, "v1").to_vector()
    np.testing.assert_array_equal(first, again)
    assert first.std() == pytest.approx(4.0, rel=0.02)  # σ = 2 · 1 · 2
    door = Door.open(site)
    once = door.spent()
    other = door.update(state, "v2").to_vector()
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    twice = door.spent()
    assert once is not None
    assert twice is not None
    assert 0 < once < twice <= 6.0


def test_the_server_can_only_make_the_rule_stricter(site: SiteDirectory) -> None:
    write(site, "privacy.json", RULE)
    rule = Door.open(site, PrivacyRule(clip=0.5, noise=0.1, epsilon=100.0, probe=True)).rule
    assert rule == PrivacyRule(clip=0.5, noise=2.0, epsilon=6.0, probe=False)


def test_a_spent_budget_is_told_and_logged(site: SiteDirectory) -> None:
    write(site, "privacy.json", {**RULE, "epsilon": 3.0})
    door = Door.open(site)
    door.update(toy_state(0.1), "v1")
    with pytest.raises(BudgetSpentError, match="only receives"):
        door.update(toy_state(0.2), "v2")
    assert "budget is spent" in events(site, "sharing_refused")[0]["reason"]
    door.update(toy_state(0.1), "v1")  # what was paid for may be sent again


def test_probes_stay_unless_both_let_them_and_cost_a_release(site: SiteDirectory) -> None:
    halves = (np.full(64, 0.1, np.float32), np.full(64, -0.1, np.float32))
    write(site, "privacy.json", RULE)
    with pytest.raises(PrivacyError, match="no gradient probe"):
        Door.open(site).probe(*halves, request=b"r", federation="f", round=1)
    write(site, "privacy.json", {**RULE, "probe": True})
    door = Door.open(site)
    first = door.probe(*halves, request=b"r", federation="f", round=1)
    again = door.probe(*halves, request=b"r", federation="f", round=1)
    np.testing.assert_array_equal(first, again)
    assert np.concatenate(first).std() == pytest.approx(2 * np.sqrt(2) * 2, rel=0.3)
    assert len(door.ledger.entries()) == 1
    door.probe(*halves, request=b"other", federation="f", round=1)  # another question is another release
    assert len(door.ledger.entries()) == 2


def _raises(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [
        (privacy, "clipped", MemoryError("clip")),
        (privacy, "gaussian", ZeroDivisionError("noise")),
        (outgoing.PrivacyLedger, "entries", RuntimeError("ledger read")),
        (atomic, "write_bytes", OSError(28, "No space left on device")),
        (outgoing.PrivacyLedger, "_spent", ValueError("accountant")),
        (np, "save", TypeError("encoding")),
    ],
)
def test_a_fault_in_any_step_lets_nothing_out(
    site: SiteDirectory, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception
) -> None:
    write(site, "privacy.json", RULE)
    door = Door.open(site)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, _raises(error))
        with pytest.raises(PrivacyError, match=r"[Nn]othing leaves"):
            door.update(toy_state(0.1), "v1")
    assert events(site, "sharing_refused")
    door.update(toy_state(0.1), "v1")  # and afterwards it goes on
    assert len(door.ledger.entries()) == 1


def test_noise_that_is_not_finite_lets_nothing_out(site: SiteDirectory) -> None:
    write(site, "privacy.json", RULE)
    door = Door.open(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "gaussian", lambda size, sigma, entropy: np.full(size, np.nan))
        with pytest.raises(PrivacyError, match="not finite"):
            door.update(toy_state(0.1), "v1")


def test_hours_are_looked_at_when_the_message_leaves(site: SiteDirectory) -> None:
    write(site, "policy.json", {"hours": {"from": "20:00", "to": "06:00", "zone": "UTC"}})
    door = Door.open(site)
    for hour, allowed in ((12, False), (23, True)):
        late = Door(site, door.policy, None, door.ledger, door.log, now=lambda hour=hour: datetime(2026, 7, 1, hour, tzinfo=UTC))
        if allowed:
            late.leaves("update", b"x", values=6, round=1, sent={})
        else:
            with pytest.raises(PolicyError, match="20:00"):
                late.leaves("update", b"x", values=6, round=1, sent={})
    assert len(events(site, "message_left")) == 1


def test_what_the_log_does_not_take_does_not_leave(site: SiteDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door.open(site)
    monkeypatch.setattr(os, "fsync", _raises(OSError(28, "No space left on device")))
    with pytest.raises(AuditError, match="No space left"):
        door.leaves("update", b"x", values=6, round=1, sent={})
    with pytest.raises(AuditError):
        door.verdict({"verdict": "promoted", "reason": "Better."}, 1)


def test_figures_stay_under_a_rule_or_where_the_policy_keeps_them(site: SiteDirectory) -> None:
    said = {"verdict": "promoted", "reason": "Dice 0.8 to 0.9.", "candidate": "c" * 16, "figures": "{}"}
    assert Door.open(site).verdict(said, 1) == said
    write(site, "policy.json", {"figures": False})
    assert Door.open(site).verdict(said, 1) == {"verdict": "promoted", "reason": WITHHELD}
    (site.root / "policy.json").unlink()
    write(site, "privacy.json", RULE)
    assert Door.open(site).verdict(said, 1) == {"verdict": "promoted", "reason": WITHHELD}


# --- on a real site directory, through Flower's ClientApp ------------------------------------------------------------------------------


@pytest.fixture(name="member", scope="module")
def _member(tmp_path_factory: pytest.TempPathFactory) -> Member:
    """A site with a version and three training cases."""
    root = tmp_path_factory.mktemp("real")
    site = make_site(root / "site", "A", train=3, validation=1)
    add_version(site, root)
    return Member.open(site.root)


@pytest.fixture(name="clean")
def _clean(member: Member) -> Member:
    """The same site without rules of an earlier test."""
    for name in ("policy.json", "privacy.json", "consent.json", "audit.jsonl"):
        (member.site.root / name).unlink(missing_ok=True)
    return member


def info(schema: AdapterSchema, number: int, rule: PrivacyRule | None = None) -> RoundInfo:
    return RoundInfo("11111111-2222", "north", number, "7", schema.base, schema.id, privacy=rule)


def ask(member: Member, number: int, message_type: str = MessageType.TRAIN, **more: Any) -> dict[str, Any]:
    """The reply to a message, by default a request for an update, through Flower's app."""
    schema = site_schema(member)
    fields = {"kind": "update", "federation": "11111111-2222", "name": "north", "round": number, "base": schema.base, "schema": schema.id}
    grid = InProcessGrid(client_app.app, [InProcessNode({"site": "A", "site-directory": str(member.site.root)})])
    reply = grid.deliver(1, Message(to_content({**fields, **more}), 1, message_type, ttl=60.0, group_id="1"))
    assert reply is not None
    return dict(fields_of(reply))


def test_an_update_under_a_rule_is_noise_around_the_adapter(clean: Member) -> None:
    schema = site_schema(clean)
    rule = PrivacyRule(clip=0.1, noise=3.0, epsilon=50.0)
    reply = client_site.collect_update(clean, info(schema, 1, rule))
    values = wire.decode_update(reply.payload, schema, site="A", round=1).state.to_vector()
    assert values.std() == pytest.approx(0.6, rel=0.02)
    assert (reply.version, reply.cases, reply.receives_only) == ("", 3, "")
    assert reply.epsilon == Door.open(clean.site, rule).spent()
    later = client_site.collect_update(clean, info(schema, 2, rule))
    np.testing.assert_array_equal(wire.decode_update(later.payload, schema).state.to_vector(), values)


def test_with_too_few_cases_or_a_spent_budget_it_only_receives(clean: Member) -> None:
    schema = site_schema(clean)
    write(clean.site, "policy.json", {"minimum_cases": 4})
    reply = client_site.collect_update(clean, info(schema, 3))
    assert "wants 4" in reply.receives_only
    assert not wire.decode_update(reply.payload, schema).state.to_vector().any()
    request = wire.encode_probe_request(wire.ProbeRequest(3, toy_state(0.0, schema), seed=3, size=64))
    with pytest.raises(PolicyError, match="wants 4"):
        client_site.answer_probe(clean, info(schema, 3), request)
    (clean.site.root / "policy.json").unlink()
    spent = client_site.collect_update(clean, info(schema, 4, PrivacyRule(clip=0.1, noise=0.5, epsilon=0.1)))
    assert (spent.cases, "budget is spent" in spent.receives_only) == (0, True)


def test_a_policy_of_8_bits_sends_8_bits_whatever_the_server_asks_for(clean: Member) -> None:
    schema = site_schema(clean)
    write(clean.site, "policy.json", {"bits": 8})
    reply = client_site.collect_update(clean, dataclasses.replace(info(schema, 6), encoding="fp16"))
    assert len(reply.payload) <= schema.size + 2000
    assert wire.decode_update(reply.payload, schema).state.to_vector().any()
    assert reply.receives_only == ""


def test_the_server_hears_a_sentence_and_the_log_has_it(clean: Member) -> None:
    write(clean.site, "policy.json", {"consent": ["research"]})
    write(clean.site, "consent.json", {"A-0": ["research"]})
    reply = ask(clean, 5)
    assert "payload" not in reply
    assert "2 of its 3 training cases lack a consent tag" in reply["refusal"]
    assert reply["audit"] == AuditLog(clean.site.audit_file).head()
    assert "consent" in events(clean.site, "sharing_refused")[0]["reason"]


def test_every_update_that_leaves_is_in_the_log_and_within_the_policy(clean: Member) -> None:
    reply = ask(clean, 10)
    (line,) = events(clean.site, "message_left")
    assert (line["purpose"], line["bytes"]) == ("update", len(reply["payload"]))
    assert line["sha256"] == hashlib.sha256(reply["payload"]).hexdigest()
    write(clean.site, "policy.json", {"bytes_per_round": 1000})
    assert "lets 1000 bytes a round leave" in ask(clean, 11)["refusal"]
    write(clean.site, "policy.json", {"bits": 8})
    assert "this update has 16" in ask(clean, 11)["refusal"]
    assert len(events(clean.site, "message_left")) == 1


def test_a_probe_passes_the_same_door(clean: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(*_: Any, **__: Any) -> ProbeHalves:
        return ProbeHalves(np.full(64, 0.5, np.float32), np.full(64, 0.25, np.float32), 2, 1)

    monkeypatch.setattr("sam_adapters.probe.probe_halves", halves)
    schema = site_schema(clean)
    request = wire.ProbeRequest(12, toy_state(0.0, schema), seed=3, size=64)
    data = wire.encode_probe_request(request)
    plain = client_site.answer_probe(clean, info(schema, 12), data)
    np.testing.assert_array_equal(wire.decode_probe_reply(plain, request).half_b, 0.25)
    rule = PrivacyRule(clip=0.1, noise=5.0, epsilon=500.0, probe=True)
    noised = wire.decode_probe_reply(client_site.answer_probe(clean, info(schema, 12, rule), data), request)
    assert noised.half_b.std() == pytest.approx(2 * np.sqrt(2) * 5, rel=0.4)
    assert [line["purpose"] for line in events(clean.site, "message_left")] == ["probe_reply"] * 2
    with pytest.raises(PrivacyError, match="no gradient probe"):
        client_site.answer_probe(clean, info(schema, 12, PrivacyRule(clip=0.1, noise=5.0, epsilon=500.0)), data)
    write(clean.site, "policy.json", {"bytes_per_round": 100})
    with pytest.raises(PolicyError, match="100 bytes a round"):
        client_site.answer_probe(clean, info(schema, 12), data)


def test_a_verdict_keeps_its_figures_under_the_servers_rule_too(clean: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    def receive(member: Member, info: RoundInfo, payload: bytes) -> client_site.MixtureReply:
        taken.append(payload)
        return client_site.MixtureReply("rejected", "Dice 0.9 to 0.8.", "a" * 16, "b" * 16, "a" * 16, {"cases": 3})

    monkeypatch.setattr(client_site, "receive_mixture", receive)
    plain = ask(clean, 13, MessageType.EVALUATE, payload=b"m")
    assert (plain["reason"], plain["figures"]) == ("Dice 0.9 to 0.8.", '{"cases": 3}')
    rule = json.dumps({"clip": 0.1, "noise": 5.0, "epsilon": 500.0})
    kept = ask(clean, 13, MessageType.EVALUATE, payload=b"m", privacy=rule)
    assert {key: kept[key] for key in kept if key not in ("site", "seconds", "audit")} == {"verdict": "rejected", "reason": WITHHELD}
    (clean.site.root / "policy.json").write_text("{", encoding="utf-8")
    assert "nothing leaves" in ask(clean, 13, MessageType.EVALUATE, payload=b"m")["refusal"]
    assert len(taken) == 2


@pytest.mark.parametrize("name", ["policy.json", "privacy.json"])
def test_a_broken_file_lets_nothing_out(clean: Member, name: str) -> None:
    (clean.site.root / name).write_text("{", encoding="utf-8")
    reply = ask(clean, 6)
    assert set(reply) == {"site", "refusal", "seconds", "audit"}
    assert "nothing leaves" in reply["refusal"]
    with pytest.raises(FedscaError):
        client_site.answer_probe(clean, info(site_schema(clean), 6), b"")


def test_a_rule_of_the_server_that_cannot_be_read_lets_nothing_out(clean: Member) -> None:
    for text in ("{", "[]", '{"clip": 1}'):
        assert "nothing leaves" in ask(clean, 7, privacy=text)["refusal"]
    assert "payload" in ask(clean, 7)


def test_each_side_keeps_the_head_of_the_others_log(clean: Member) -> None:
    first = ask(clean, 8, audit="b" * 64)
    second = ask(clean, 9, audit="c" * 64)
    assert [line["anchor"] for line in events(clean.site, "server_anchor")] == ["b" * 64, "c" * 64]
    path = clean.site.audit_file
    assert verify(path, [first["audit"], second["audit"]]).good
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(path, [first["audit"], second["audit"]]).missing == (second["audit"],)


def test_the_sites_status_says_what_was_spent(clean: Member) -> None:
    write(clean.site, "privacy.json", {**RULE, "epsilon": 1000.0})
    Door.open(clean.site).update(toy_state(0.1), "v of the status")
    result = CliRunner().invoke(site_app, ["status", "--site", str(clean.site.root)])
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert "of 1000 spent at δ 1e-05 (this site's rule)" in said
    norm, size = learnt_norm(clean)
    assert norm > 0
    assert f"By that rule, an update of norm {norm:.3g} leaves" in said
    assert f"noise of norm {4 * size**0.5:,.0f} is added in {size:,} values: mostly noise leaves" in said


def test_the_sites_status_goes_on_where_its_adapters_are_damaged(clean: Member, tmp_path: Path) -> None:
    root = Path(shutil.copytree(clean.site.root, tmp_path / "copy"))
    (root / "privacy.json").write_text(json.dumps({**RULE, "epsilon": 1000.0}), encoding="utf-8")
    for path in (root / "adapters").rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    result = CliRunner().invoke(site_app, ["status", "--site", str(root)])
    assert result.exit_code == 0, result.output
    assert "this site's rule" in result.output
    assert "By that rule" not in result.output


def test_a_site_is_told_when_its_update_drowns_in_noise(site: SiteDirectory, caplog: pytest.LogCaptureFixture) -> None:
    write(site, "privacy.json", {**RULE, "epsilon": 1e6, "noise": 1e-2})
    Door.open(site).update(toy_state(0.5), "v1")
    assert not caplog.messages
    write(site, "privacy.json", {**RULE, "epsilon": 1e6})
    Door.open(site).update(toy_state(0.5), "v2")
    assert [message for message in caplog.messages if "mostly noise leaves" in message]
