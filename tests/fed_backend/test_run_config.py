"""What a federation agrees on."""

import tomllib
from pathlib import Path

import pytest

from fed_backend import launch
from fed_backend.errors import RoundError
from fed_backend.run_config import FederationSettings


def test_the_bundle_knows_exactly_these_keys_with_these_defaults() -> None:
    config = tomllib.loads((launch.FLOWER_APP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    assert config == {"state-dir": "", "rounds": 1, "until-round": 0, **FederationSettings().to_run_config()}
    assert {key: type(value) for key, value in config.items() if key in FederationSettings().to_run_config()} == {
        key: type(value) for key, value in FederationSettings().to_run_config().items()
    }


def test_round_trips(tmp_path: Path) -> None:
    settings = FederationSettings(federation="north", rank=4, min_sites=3, join_seconds=5, probe_every=2, caution=0.25)
    settings.save(tmp_path)
    assert FederationSettings.load(tmp_path) == settings
    assert FederationSettings.from_run_config({"state-dir": "/s", "rounds": 3, **settings.to_run_config()}) == settings


def test_whole_numbers_serve_as_seconds() -> None:
    config = FederationSettings().to_run_config() | {"join-seconds": 7}
    assert FederationSettings.from_run_config(config).join_seconds == 7.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rank", 0),
        ("rank", "8"),
        ("rank", True),
        ("shared-depth", 0.0),
        ("min-sites", 0),
        ("join-seconds", 0.0),
        ("probe-seconds", float("inf")),
        ("caution", float("nan")),
        ("caution", -1.0),
        ("base", "resnet"),
        ("probe-every", 0),
        ("projection-size", 66),
        ("federation", " "),
        ("privacy-noise", -1.0),
        ("privacy-noise", float("nan")),
        ("privacy-clip", 0.0),
        ("privacy-epsilon", 0.0),
        ("privacy-delta", 1.0),
        ("privacy-probe", 1),
    ],
)
def test_bad_values_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(RoundError, match=key.replace("-", "_")):
        FederationSettings.from_run_config(FederationSettings().to_run_config() | {key: value})


def test_missing_keys_are_named() -> None:
    config = FederationSettings().to_run_config()
    del config["rank"]
    with pytest.raises(RoundError, match="lacks rank"):
        FederationSettings.from_run_config(config)


def test_a_federation_that_was_never_started(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="fedsca server start"):
        FederationSettings.load(tmp_path)
    (tmp_path / "federation.json").write_text("{", encoding="utf-8")
    with pytest.raises(RoundError, match="cannot be read"):
        FederationSettings.load(tmp_path)


def test_a_file_of_older_software_takes_the_defaults_of_newer_settings(tmp_path: Path) -> None:
    (tmp_path / "federation.json").write_text('{"federation": "north", "rank": 4}', encoding="utf-8")
    assert FederationSettings.load(tmp_path) == FederationSettings(federation="north", rank=4)
    (tmp_path / "federation.json").write_text('{"shared_depth": 0.5}', encoding="utf-8")  # of when the decoder never was shared
    assert FederationSettings.load(tmp_path) == FederationSettings(shared_depth=0.5, shared_decoder=False)


def test_a_privacy_rule_is_asked_for_by_its_noise() -> None:
    assert FederationSettings().privacy_rule() is None
    rule = FederationSettings(privacy_noise=2.0, privacy_clip=0.5, privacy_probe=True).privacy_rule()
    assert rule is not None
    assert (rule.clip, rule.noise, rule.epsilon, rule.delta, rule.probe) == (0.5, 2.0, 8.0, 1e-5, True)
