from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.errors import RegistryError
from sam_adapters.provenance import KINDS, Provenance, checked_version_id
from tests.sam_adapters.toy_adapter import toy_provenance

names = st.text(max_size=10)
ids = st.text("0123456789abcdef", min_size=16, max_size=16)
figures = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Provenance,
        kind=st.sampled_from(KINDS),
        base=st.just("ab" * 32),
        schema_id=ids,
        site=names,
        parents=st.lists(ids, max_size=3).map(tuple),
        federation=st.one_of(st.none(), names),
        round=st.one_of(st.none(), st.integers(0, 10**6)),
        cases=st.integers(0, 10**6),
        labels=st.dictionaries(names, st.just("0" * 64), max_size=3),
        weights=st.dictionaries(names, figures, max_size=3),
        metrics=st.dictionaries(names, figures, max_size=3),
        settings=st.dictionaries(names, st.one_of(st.integers(), names, st.lists(names, max_size=2)), max_size=3),
        created=st.datetimes(timezones=st.just(UTC)),
    )
)
def test_it_reads_back_as_what_was_written(provenance: Provenance) -> None:
    assert Provenance.from_dict(provenance.to_dict()) == provenance


def test_it_is_a_readable_file(tmp_path: Path) -> None:
    provenance = toy_provenance(weights={"north": 0.75})
    provenance.save(tmp_path / "provenance.json")
    assert Provenance.load(tmp_path / "provenance.json") == provenance
    assert '"north": 0.75' in (tmp_path / "provenance.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "stolen"}, "kind is 'stolen', expected one of local, mixture, imported"),
        ({"base": "litemedsam"}, "base is 'litemedsam', expected a sha256"),
        ({"schema_id": "1"}, "schema is '1'"),
        ({"parents": ("../x",)}, "'../x' is not an adapter version"),
        ({"cases": -1}, "-1 cases"),
        ({"round": -1}, "round -1"),
        ({"created": datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(RegistryError, match=sentence):
        toy_provenance(**changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read as a provenance"),
        ("[]", "holds a list"),
        ("{}", "Not a provenance: KeyError"),
        ('{"format": 2}', "format 2 is not known here, expected 1: update"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "provenance.json").write_text(text, encoding="utf-8")
    with pytest.raises(RegistryError, match=sentence):
        Provenance.load(tmp_path / "provenance.json")


def test_ids() -> None:
    assert checked_version_id("0123456789abcdef") == "0123456789abcdef"
    for bad in ("", "0123456789ABCDEF", "0123456789abcdef0", " 0123456789abcdef", "0123456789abcdef\n", "../0123456789abc"):
        with pytest.raises(RegistryError, match="expected 16 hexadecimal digits"):
            checked_version_id(bad)
