"""How the benchmark plays the person whom a site's gate asks."""

from pathlib import Path

from benchmarks.federated.product_round import active_folder, learning_folder, take_tuned
from sam_adapters.loading import load_adapted
from sam_adapters.registry import BASE, Registry
from tests.sam_adapters.toy_studies import SETTINGS, make_site


def test_what_the_gate_leaves_to_a_person_is_accepted(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=1)  # one validation case tells nothing: the gate asks
    load_adapted(SETTINGS).save(tmp_path / "tuned")
    assert active_folder(site) is None
    assert take_tuned(site, SETTINGS, tmp_path / "tuned", 2, gate=True) == "waiting"
    active = active_folder(site)
    assert active is not None
    assert (active / "adapter_model.safetensors").read_bytes() == (tmp_path / "tuned" / "adapter_model.safetensors").read_bytes()


def test_what_the_gate_rejects_is_not(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=2)
    spoiled = load_adapted(SETTINGS)
    for parameter in spoiled.trainable_parameters():
        parameter.data.fill_(1.0)
    spoiled.save(tmp_path / "spoiled")
    assert take_tuned(site, SETTINGS, tmp_path / "spoiled", 2, gate=True) == "rejected"
    assert active_folder(site) is None
    assert learning_folder(site) is None


def test_what_is_learnt_from_is_gone_on_from_and_not_scored(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=2)
    load_adapted(SETTINGS).save(tmp_path / "tuned")
    take_tuned(site, SETTINGS, tmp_path / "tuned", 2, gate=False)
    with Registry(site) as registry:
        (version,) = registry.versions()
        registry.activate(BASE, reason="serve the base", by="dr. test")
        registry.reject(version.id, reason="a little worse", learn="close enough")
    assert active_folder(site) is None
    start = learning_folder(site)
    assert start is not None
    assert start.name == version.id
