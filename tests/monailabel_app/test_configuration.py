"""What --conf may say."""

from pathlib import Path

import pytest

from monailabel_app.configuration import AppConfiguration
from sam_adapters.errors import SettingError
from sam_adapters.settings import SiteSettings


def test_the_site_is_the_parent_of_a_folder_named_studies(tmp_path: Path) -> None:
    studies = tmp_path / "center1" / "studies"
    studies.mkdir(parents=True)
    assert AppConfiguration.from_conf(str(studies), {}).site.root == tmp_path / "center1"


def test_the_site_of_any_other_folder_is_hidden_inside_it(tmp_path: Path) -> None:
    configuration = AppConfiguration.from_conf(str(tmp_path), {})
    assert configuration.site.root == tmp_path / ".fedsca"
    assert configuration.site.studies == tmp_path


def test_the_site_can_be_named(tmp_path: Path) -> None:
    configuration = AppConfiguration.from_conf(str(tmp_path / "images"), {"site": str(tmp_path / "elsewhere")})
    assert configuration.site.root == tmp_path / "elsewhere"


def test_conf_goes_over_site_json_and_is_saved(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    SiteSettings(name="north", image_size=128, rank=4).save(tmp_path / "site.json")
    configuration = AppConfiguration.from_conf(str(studies), {"rank": "16", "tune": "false", "idle_seconds": "0.5"})
    assert (configuration.settings.name, configuration.settings.image_size, configuration.settings.rank) == ("north", 128, 16)
    assert (configuration.tune, configuration.idle_seconds) == (False, 0.5)
    assert SiteSettings.load(tmp_path / "site.json").rank == 4
    configuration.save()
    assert SiteSettings.load(tmp_path / "site.json") == configuration.settings


def test_a_site_of_before_the_decoder_could_be_shared_keeps_its_layout(tmp_path: Path) -> None:
    (tmp_path / "site.json").write_text('{"name": "north", "shared_depth": 0.5}', encoding="utf-8")
    assert not SiteSettings.load(tmp_path / "site.json").shared_decoder
    (tmp_path / "site.json").write_text('{"name": "north"}', encoding="utf-8")
    assert SiteSettings.load(tmp_path / "site.json").shared_decoder


def test_saving_what_is_saved_already_touches_nothing(tmp_path: Path) -> None:
    configuration = AppConfiguration.from_conf(str(tmp_path / "studies"), {})
    configuration.save()
    before = (tmp_path / "site.json").stat()
    configuration.save()
    assert (tmp_path / "site.json").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"image_size": "100"}, "image_size is 100, expected a multiple of 8"),
        ({"image_size": "big"}, "image_size is 'big', expected a whole number"),
        ({"imagesize": "128"}, "Unknown --conf key 'imagesize'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"base": "sam3"}, "base is 'sam3'"),
        ({"tune": "perhaps"}, "tune is 'perhaps', expected true or false"),
        ({"cache_mb": "1"}, "cache_mb is '1', expected 16"),
        ({"idle_seconds": "soon"}, "idle_seconds is 'soon', expected a number"),
        ({"idle_seconds": "nan"}, "idle_seconds is 'nan'"),
        ({"cache_mb": "inf"}, "cache_mb is 'inf'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path, conf: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        AppConfiguration.from_conf(str(tmp_path), conf)


def test_a_site_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="cannot be made"):
        AppConfiguration.from_conf(str(tmp_path), {"site": str(tmp_path / "file" / "site")})
