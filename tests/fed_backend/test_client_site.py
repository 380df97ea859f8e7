"""What a hospital answers, on a real site directory with a real base (the network runs only in the rounds' test)."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fed_backend import client_site, wire
from fed_backend.errors import RoundError, UnexpectedMessageError, UnknownReferenceError
from fed_backend.member import Member, RoundInfo, site_schema
from fed_backend.payload_codec import Encoding
from fed_backend.redaction import public_figures, redacted
from sam_adapters.adapter_files import read_shared_state
from sam_adapters.gate_rule import GateDecision
from sam_adapters.registry import Registry
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.site_fixture import add_version, make_site, small_noise


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> SiteDirectory:
    return make_site(tmp_path / "site", "A", train=3, validation=2)


@pytest.fixture(name="member")
def _member(site: SiteDirectory) -> Member:
    return Member.open(site.root)


@pytest.fixture(name="schema")
def _schema(member: Member) -> AdapterSchema:
    return site_schema(member)


def info(schema: AdapterSchema, number: int = 1) -> RoundInfo:
    return RoundInfo("11111111-2222", "north", number, "7", schema.base, schema.id)


def mixture(schema: AdapterSchema, number: int = 1, seed: int = 5, site: str = "A") -> bytes:
    return wire.encode_mixture(wire.Mixture(site, number, small_noise(schema, 1e-3, seed), {"A": 0.75, "B": 0.25}))


class Gate:
    """Stands in for the gate where its verdict does not matter: says what it is told and counts."""

    def __init__(self, verdict: str = "rejected") -> None:
        self.verdict = verdict
        self.calls: list[str] = []
        self.learning: list[bool] = []

    def __call__(self, site: SiteDirectory, settings: object, version_id: str, *, round: int, learn: bool) -> GateDecision:
        self.calls.append(version_id)
        self.learning.append(learn)
        figures = {"cases": 2, "overall": {"candidate": 0.5}, "skipped": {"A-1": "It is torn."}}
        with Registry(site) as registry:
            if self.verdict == "promoted":
                registry.activate(version_id, reason="It is better.", by="gate", figures=figures)
            else:
                registry.reject(version_id, reason="It is worse.", figures=figures)
        return GateDecision(self.verdict, "It is worse.", figures)  # type: ignore[arg-type]


@pytest.fixture(name="gate")
def _gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr("sam_adapters.gate.run_gate", gate)
    return gate


def test_a_site_without_a_version_sends_zeros_and_no_cases(member: Member, schema: AdapterSchema) -> None:
    reply = client_site.collect_update(member, info(schema))
    update = wire.decode_update(reply.payload, schema, site="A", round=1)
    assert (reply.version, reply.cases, update.cases) == ("base", 0, 0)
    assert not update.state.to_vector().any()


def test_an_update_is_the_active_versions_shared_part(member: Member, schema: AdapterSchema, tmp_path: Path) -> None:
    version = add_version(member.site, tmp_path)
    reply = client_site.collect_update(member, info(schema))
    update = wire.decode_update(reply.payload, schema, site="A", round=1)
    assert (reply.version, update.cases) == (version.id, 3)  # three training cases; the validation cases do not count
    np.testing.assert_array_equal(update.state.to_vector(), small_noise(schema, 1e-3, 0).to_vector())
    with Registry(member.site) as registry:
        record = registry.find_round("11111111-2222", 1)
    assert record is not None
    assert (record.sent_version, record.run_id, record.bytes_up) == (version.id, "7", {"update": len(reply.payload)})


def turned_away(member: Member, tmp_path: Path, parent: str, seed: int = 3) -> str:
    """A version that is not served and is learnt from."""
    version = add_version(member.site, tmp_path / "aside", seed=seed, active=False, parents=(parent,))
    with Registry(member.site) as registry:
        registry.reject(version.id, reason="It is a little worse.", learn="It is close enough.")
    return version.id


def test_what_is_learnt_from_is_what_leaves_and_what_a_mixture_is_laid_upon(
    member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path
) -> None:
    active = add_version(member.site, tmp_path).id
    learnt = turned_away(member, tmp_path, active)
    reply = client_site.collect_update(member, info(schema))
    update = wire.decode_update(reply.payload, schema, site="A", round=1)
    assert (reply.version, update.cases) == (learnt, 3)
    np.testing.assert_array_equal(update.state.to_vector(), small_noise(schema, 1e-3, 3).to_vector())
    answer = client_site.receive_mixture(member, info(schema), mixture(schema))
    assert (answer.verdict, answer.active_before, answer.active_after) == ("rejected", active, active)
    with Registry(member.site) as registry:
        assert registry.get(answer.candidate).parents == (learnt,)


def test_a_mixture_that_is_learnt_from_already_is_not_judged_again(
    member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path
) -> None:
    active = add_version(member.site, tmp_path).id
    turned_away(member, tmp_path, active, seed=5)
    reply = client_site.receive_mixture(member, info(schema), mixture(schema, seed=5))
    assert (reply.verdict, reply.active_after) == ("unchanged", active)
    assert gate.calls == []


def test_a_tuning_between_update_and_mixture_is_not_put_aside_for_it(
    member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path
) -> None:
    active = add_version(member.site, tmp_path).id
    client_site.collect_update(member, info(schema))
    client_site.receive_mixture(member, info(schema), mixture(schema))
    client_site.collect_update(member, info(schema, 2))
    turned_away(member, tmp_path, active)  # a tuning ends; the mixture on its way knows nothing of it
    client_site.receive_mixture(member, info(schema, 2), mixture(schema, 2, seed=6))
    assert gate.learning == [True, False]


def test_an_update_needs_neither_torch_nor_an_image_library(site: SiteDirectory, schema: AdapterSchema) -> None:
    code = (
        "import sys; from pathlib import Path; from fed_backend import client_site as c, member as m;"
        f"c.collect_update(m.Member.open(Path({str(site.root)!r})), m.RoundInfo('f', 'n', 1, '7', {schema.base!r}, {schema.id!r}));"
        "sys.exit(bool({'torch', 'SimpleITK'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_another_base_or_layout_is_declined_in_words(member: Member, schema: AdapterSchema) -> None:
    with pytest.raises(RoundError, match=r"uses base litemedsam .*set the site to that base"):
        client_site.collect_update(member, dataclasses.replace(info(schema), base="0" * 64))
    with pytest.raises(RoundError, match=r"rank 8, shared depth 1\.0, the decoder's too.*set rank, shared_depth and shared_decoder"):
        client_site.collect_update(member, dataclasses.replace(info(schema), schema="0" * 16))


def test_the_layout_follows_the_settings(site: SiteDirectory, schema: AdapterSchema) -> None:
    member = Member.open(site.root)
    smaller = dataclasses.replace(member.settings, rank=4)
    smaller.save(site.settings_file)
    assert site_schema(Member.open(site.root)).rank == 4
    dataclasses.replace(member.settings, shared_decoder=False).save(site.settings_file)
    assert not site_schema(Member.open(site.root)).shared_decoder
    assert site_schema(member) == schema


def test_a_damaged_layout_file_is_made_anew(member: Member, schema: AdapterSchema) -> None:
    cache = member.site.work / "schema.json"
    for text in ("{", "[]", '{"key": 1}', cache.read_text(encoding="utf-8").replace('"rank": 8', '"rank": 4')):
        cache.write_text(text, encoding="utf-8")
        assert site_schema(member) == schema


def test_too_few_patients_to_compare(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", "A", train=1)
    member = Member.open(site.root)
    schema = site_schema(member)
    request = wire.encode_probe_request(wire.ProbeRequest(1, AdapterState.zeros(schema), seed=3, size=64))
    with pytest.raises(RoundError, match="fewer than two patients"):
        client_site.answer_probe(member, info(schema), request)


def test_a_probe_of_another_round_is_declined(member: Member, schema: AdapterSchema) -> None:
    request = wire.encode_probe_request(wire.ProbeRequest(2, AdapterState.zeros(schema), seed=3, size=64))
    with pytest.raises(RoundError, match="of round 2, the message of round 1"):
        client_site.answer_probe(member, info(schema), request)


def test_a_mixture_becomes_a_candidate_with_its_history(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    parent = add_version(member.site, tmp_path)
    payload = mixture(schema)
    reply = client_site.receive_mixture(member, info(schema), payload)
    assert (reply.verdict, reply.active_before, reply.active_after) == ("rejected", parent.id, parent.id)
    assert gate.calls == [reply.candidate]
    with Registry(member.site) as registry:
        version = registry.get(reply.candidate)
        record = registry.find_round("11111111-2222", 1)
        state = read_shared_state(registry.folder(version.id), schema)
    assert (version.kind, version.parents, version.round, version.provenance.federation) == ("mixture", (parent.id,), 1, "north")
    assert version.provenance.weights == {"A": 0.75, "B": 0.25}
    assert version.provenance.settings["federation_id"] == "11111111-2222"
    np.testing.assert_array_equal(state.to_vector(), small_noise(schema, 1e-3, 5).to_vector())
    assert record is not None
    assert (record.received_version, record.decision, record.reason) == (version.id, "rejected", "It is worse.")
    assert record.bytes_down == {"mixture": len(payload)}
    assert list(member.site.work.glob("mixture-*")) == []


def test_a_site_without_a_version_takes_the_mixture_on_the_untuned_adapters(member: Member, schema: AdapterSchema, gate: Gate) -> None:
    gate.verdict = "promoted"
    reply = client_site.receive_mixture(member, info(schema), mixture(schema))
    assert (reply.verdict, reply.active_before, reply.active_after) == ("promoted", "base", reply.candidate)
    with Registry(member.site) as registry:
        assert registry.get(reply.candidate).parents == ()


def test_a_mixture_delivered_twice_has_one_effect(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    gate.verdict = "promoted"
    parent = add_version(member.site, tmp_path)
    first = client_site.receive_mixture(member, info(schema), mixture(schema))
    # A server that was killed may even send another mixture for the round: it counts once.
    for seed in (5, 6):
        again = client_site.receive_mixture(member, info(schema), mixture(schema, seed=seed))
        assert (again.verdict, again.reason, again.candidate) == (first.verdict, first.reason, first.candidate)
        assert (again.active_before, again.active_after) == (parent.id, first.candidate)
        assert again.figures == first.figures
    assert len(gate.calls) == 1
    with Registry(member.site) as registry:
        assert len(registry.versions()) == 2
        assert [decision.action for decision in registry.decisions()].count("activated") == 2
    # The next round counts anew, as does a round 1 of another federation.
    client_site.receive_mixture(member, info(schema, 2), mixture(schema, 2, seed=7))
    client_site.receive_mixture(member, dataclasses.replace(info(schema), federation="other"), mixture(schema, seed=8))
    assert len(gate.calls) == 3


def test_a_repeated_reply_tells_the_gates_figures_whatever_a_person_did_since(
    member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path
) -> None:
    gate.verdict = "promoted"
    add_version(member.site, tmp_path)
    first = client_site.receive_mixture(member, info(schema), mixture(schema))
    assert first.figures
    with Registry(member.site) as registry:
        registry.rollback(reason="a second look", by="a person")
        registry.activate(first.candidate, reason="it was good", by="a person")
    again = client_site.receive_mixture(member, info(schema), mixture(schema))
    assert again.figures == first.figures
    assert again.active_before == first.active_before


def test_a_gate_that_was_killed_is_run_again(
    member: Member, schema: AdapterSchema, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_version(member.site, tmp_path)

    def killed(*_: object, **__: object) -> GateDecision:
        raise KeyboardInterrupt

    monkeypatch.setattr("sam_adapters.gate.run_gate", killed)
    with pytest.raises(KeyboardInterrupt):
        client_site.receive_mixture(member, info(schema), mixture(schema))
    gate = Gate()
    monkeypatch.setattr("sam_adapters.gate.run_gate", gate)
    reply = client_site.receive_mixture(member, info(schema), mixture(schema))
    assert gate.calls == [reply.candidate]
    with Registry(member.site) as registry:
        assert len(registry.versions()) == 2


def test_a_mixture_that_is_active_already_changes_nothing(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    version = add_version(member.site, tmp_path, seed=5)
    reply = client_site.receive_mixture(member, info(schema), mixture(schema, seed=5))
    assert (reply.verdict, reply.candidate, reply.active_after) == ("unchanged", "", version.id)
    again = client_site.receive_mixture(member, info(schema), mixture(schema, seed=5))
    assert again.verdict == "unchanged"
    assert gate.calls == []
    with Registry(member.site) as registry:
        assert len(registry.versions()) == 1


def test_zeros_change_nothing_at_an_untuned_site(member: Member, schema: AdapterSchema, gate: Gate) -> None:
    payload = wire.encode_mixture(wire.Mixture("A", 1, AdapterState.zeros(schema), {"B": 1.0}, newcomer=True))
    assert client_site.receive_mixture(member, info(schema), payload).verdict == "unchanged"
    assert gate.calls == []


def test_a_mixture_for_another_site_or_round_is_declined(member: Member, schema: AdapterSchema, gate: Gate) -> None:
    with pytest.raises(UnexpectedMessageError, match="'B'"):
        client_site.receive_mixture(member, info(schema), mixture(schema, site="B"))
    with pytest.raises(UnexpectedMessageError, match="round"):
        client_site.receive_mixture(member, info(schema, 2), mixture(schema, 1))
    assert gate.calls == []


def test_a_refusal_is_written_down_and_does_not_block_the_round(member: Member, schema: AdapterSchema, gate: Gate) -> None:
    client_site.note_refusal(member, info(schema), "Two sites have this name.")
    with Registry(member.site) as registry:
        record = registry.find_round("11111111-2222", 1)
    assert record is not None
    assert (record.decision, record.reason) == ("refused", "Two sites have this name.")
    assert client_site.receive_mixture(member, info(schema), mixture(schema)).verdict == "rejected"


def test_what_leaves_the_site_names_no_case_and_no_path(member: Member) -> None:
    text = f"Label of A-1 in {member.site.root}/studies/A-1.nii.gz and /home/x/y.txt, A-10 and A-1.nii.gz are torn; base ab/cd stays."
    public = redacted(text, member.site)
    assert "A-1" not in public.replace("A-10", "")
    assert str(member.site.root) not in public
    assert "/home" not in public
    assert public.startswith("Label of <case> in <site>")
    assert "base ab/cd stays" in public
    figures = public_figures({"cases": 2, "overall": {"candidate": 0.5}, "skipped": {"A-1": "torn"}})
    assert figures == '{"cases": 2, "overall": {"candidate": 0.5}}'


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="no site directory"):
        Member.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def coded(schema: AdapterSchema, number: int = 1, encoding: Encoding = "int8") -> RoundInfo:
    return dataclasses.replace(info(schema, number), encoding=encoding)


def server_answer(schema: AdapterSchema, number: int, update: wire.UpdateMessage, *, weight: float = 1.0) -> bytes:
    """A mixture as the server makes it: the difference to the site's own update."""
    state = AdapterState.from_vector(schema, np.float32(weight) * update.state.to_vector())
    message = wire.Mixture("A", number, state, {"A": 1.0}, acknowledged=wire.state_digest(update.state))
    return wire.encode_mixture(message, wire.Coding("int8", 40_000, update.state))


def test_an_old_server_is_answered_in_its_version(member: Member, schema: AdapterSchema) -> None:
    assert wire.message_version(client_site.collect_update(member, info(schema)).payload) == 1
    assert wire.message_version(client_site.collect_update(member, coded(schema)).payload) == 2


def test_the_next_update_is_a_difference_to_what_the_server_has(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    add_version(member.site, tmp_path)
    first = wire.decode_update(client_site.collect_update(member, coded(schema)).payload, schema)
    client_site.receive_mixture(member, coded(schema), server_answer(schema, 1, first, weight=0.5))
    assert gate.calls
    payload = client_site.collect_update(member, coded(schema, 2)).payload
    with pytest.raises(UnknownReferenceError):
        wire.decode_update(payload, schema)
    second = wire.decode_update(payload, schema, references=[first.state])
    meant = small_noise(schema, 1e-3, 0).to_vector()
    # The error of the first update is in the second: their sum is closer to twice what was meant than each of them is by itself.
    both = first.state.to_vector() + second.state.to_vector()
    assert np.linalg.norm(both - 2 * meant) < 0.3 * np.linalg.norm(first.state.to_vector() - meant)


def test_ones_own_rounded_update_changes_nothing(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    """A site that is left alone is sent what it has sent, which 8 bits have made a little worse than what it has."""
    version = add_version(member.site, tmp_path)
    sent = wire.decode_update(client_site.collect_update(member, coded(schema)).payload, schema)
    reply = client_site.receive_mixture(member, coded(schema), server_answer(schema, 1, sent))
    assert (reply.verdict, reply.active_after) == ("unchanged", version.id)
    assert gate.calls == []


def test_a_refused_update_is_followed_by_a_full_one(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    add_version(member.site, tmp_path)
    first = wire.decode_update(client_site.collect_update(member, coded(schema)).payload, schema)
    client_site.receive_mixture(member, coded(schema), server_answer(schema, 1, first, weight=0.5))
    client_site.collect_update(member, coded(schema, 2))
    client_site.note_refusal(member, coded(schema, 2), "The server was restored from a backup.")
    wire.decode_update(client_site.collect_update(member, coded(schema, 3)).payload, schema)


def test_the_common_state_of_the_probe_may_be_the_reference(member: Member, schema: AdapterSchema, gate: Gate, tmp_path: Path) -> None:
    site = make_site(tmp_path / "small", "A", train=1)
    member = Member.open(site.root)
    common = small_noise(schema, 1e-3, 9)
    request = wire.encode_probe_request(wire.ProbeRequest(1, common, seed=3, size=64), wire.Coding("fp16"))
    with pytest.raises(RoundError, match="fewer than two patients"):
        client_site.answer_probe(member, coded(schema), request)
    message = wire.Mixture("A", 1, small_noise(schema, 1e-3, 5), {"B": 1.0})
    client_site.receive_mixture(member, coded(schema), wire.encode_mixture(message, wire.Coding("fp16", reference=common)))
    assert len(gate.calls) == 1
