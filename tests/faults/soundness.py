"""What must hold after every fault: no round counted twice, no version lost, one effect per update, logs that hang together."""

import numpy as np

from sam_adapters import adapter_files
from sam_adapters.registry import Registry
from tests.faults.federation import Federation


def assert_sound(federation: Federation, rounds: int) -> None:
    """The federation has exactly `rounds` rounds behind it, each once, and everything that was there before is there."""
    _rounds_count_once(federation, rounds)
    for name in federation.sites:
        _versions_are_whole(federation, name)
        _one_effect_per_round(federation, name)


def _rounds_count_once(federation: Federation, rounds: int) -> None:
    state, reports = federation.server_state(), federation.reports()
    numbers = list(range(1, rounds + 1))
    assert state.round == rounds
    assert [entry.round for entry in state.history] == numbers
    assert [report["round"] for report in reports] == numbers
    assert {report["status"] for report in reports} <= {"finished", "skipped"}
    assert {report["federation"] for report in reports} == {state.federation}
    last_heard = {name: max([r["round"] for r in reports if name in r["sites"]], default=None) for name in federation.sites}
    known = {name: state.sites[name].last_round if name in state.sites else None for name in federation.sites}
    assert known == last_heard


def _versions_are_whole(federation: Federation, name: str) -> None:
    """Nothing is lost, nothing is damaged, one version serves (a newcomer has none)."""
    site = federation.sites[name]
    with Registry(site) as registry:
        versions = registry.versions()
        assert federation.begun[name] <= {version.id for version in versions}
        assert {version.id: registry.verify(version.id) for version in versions if registry.verify(version.id)} == {}
        assert sum(version.state == "active" for version in versions) == min(1, len(federation.begun[name]))
        folders = {path.name for path in site.adapters.iterdir() if not path.name.startswith((".", "incoming"))}
        assert folders == {version.id for version in versions}


def _one_effect_per_round(federation: Federation, name: str) -> None:
    """What the server has of a site is the version that the site says it sent; each round has one line at the site."""
    state = federation.server_state()
    verdicts = {report["round"]: report["verdicts"].get(name, {}).get("verdict") for report in federation.reports()}
    with Registry(federation.sites[name]) as registry:
        records = registry.rounds(state.federation)
        numbers = [record.round for record in records]
        assert len(numbers) == len(set(numbers))
        for record in records:
            if verdicts.get(record.round) is not None:
                assert record.decision == verdicts[record.round], record
        known = state.sites.get(name)
        if known is None:
            return
        (record,) = [record for record in records if record.round == known.last_round]
        sent = record.sent_version
        assert sent is not None
        if sent == "base":
            assert not known.state.to_vector().any()
            return
        meant = adapter_files.read_shared_state(registry.folder(sent), known.state.schema).to_vector()
        np.testing.assert_allclose(known.state.to_vector(), meant, atol=2e-3 * max(float(np.abs(meant).max()), 1e-6))
