import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.errors import SettingError
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.splits import Split, hash_fraction, is_validation, load_patients, load_split, patient_of, role_of

names = st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable())
fractions = st.floats(0, 1)
NOTHING: dict[str, str] = {}
EXPECTED_VALIDATION = [2, 4, 17, 25]


@pytest.fixture
def site(tmp_path: Path) -> SiteDirectory:
    return SiteDirectory.open(tmp_path / "site")


class TestHash:
    def test_known_values_never_change(self) -> None:
        # A change here would move patients between sides at every site.
        first = int.from_bytes(hashlib.sha256(b"fedsca-validation-1\0patient-1").digest()[:8], "big")
        assert hash_fraction("patient-1", salt="fedsca-validation-1") == pytest.approx(first / 2**64, abs=2**-52)
        assert [n for n in range(30) if is_validation(f"patient-{n}")] == EXPECTED_VALIDATION

    @given(names, names)
    def test_it_is_a_number_from_0_to_below_1(self, text: str, salt: str) -> None:
        assert 0 <= hash_fraction(text, salt=salt) < 1

    @given(names, fractions, fractions)
    def test_who_validates_at_one_fraction_does_so_at_every_larger_one(self, patient: str, one: float, other: float) -> None:
        small, large = sorted((one, other))
        assert not is_validation(patient, fraction=small) or is_validation(patient, fraction=large)

    @given(names)
    def test_none_validate_at_0_and_all_at_1(self, patient: str) -> None:
        assert not is_validation(patient, fraction=0)
        assert is_validation(patient, fraction=1)

    @pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
    def test_about_the_asked_fraction_validates(self, fraction: float) -> None:
        share = sum(is_validation(f"p{n}", fraction=fraction) for n in range(5000)) / 5000
        assert share == pytest.approx(fraction, abs=0.02)  # four standard deviations at most

    def test_another_salt_is_another_draw(self) -> None:
        patients = [f"p{n}" for n in range(200)]
        assert [is_validation(p) for p in patients] != [is_validation(p, salt="other") for p in patients]

    @pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
    def test_a_fraction_that_is_none_is_refused(self, fraction: float) -> None:
        with pytest.raises(SettingError, match="expected 0 to 1"):
            is_validation("p", fraction=fraction)


class TestRole:
    SPLIT = Split(train=frozenset({"a"}), validation=frozenset({"b"}), test=frozenset({"c"}))

    def test_listed_cases_have_their_listed_role(self) -> None:
        assert [role_of(case, split=self.SPLIT, patients=NOTHING) for case in "abc"] == ["train", "validation", "test"]

    def test_another_case_of_a_listed_patient_is_on_the_same_side(self) -> None:
        patients = {"a": "p1", "a2": "p1", "c": "p3", "c2": "p3", "b2": "b"}
        roles = [role_of(case, split=self.SPLIT, patients=patients) for case in ("a2", "c2", "b2")]
        assert roles == ["train", "test", "validation"]

    @given(st.dictionaries(names, st.sampled_from(["p1", "p2", "p3"]), max_size=12), names, fractions)
    def test_all_cases_of_one_patient_are_on_one_side(self, patients: dict[str, str], listed: str, fraction: float) -> None:
        split = Split(frozenset(), frozenset(), frozenset({listed}))
        roles: dict[str, set[str]] = {}
        for case in [*patients, listed]:
            roles.setdefault(patient_of(case, patients), set()).add(role_of(case, split=split, patients=patients, fraction=fraction))
        assert all(len(found) == 1 for found in roles.values())
        assert role_of(listed, split=split, patients=patients, fraction=fraction) == "test"

    @given(st.sets(names, max_size=20), st.sets(names, max_size=20), fractions)
    def test_a_test_case_never_trains_or_validates_and_without_a_split_nothing_is_test(
        self, test: set[str], others: set[str], fraction: float
    ) -> None:
        split = Split(frozenset(), frozenset(), frozenset(test))
        assert {role_of(case, split=split, patients=NOTHING, fraction=fraction) for case in test} <= {"test"}
        assert "test" not in {role_of(case, split=None, patients=NOTHING, fraction=fraction) for case in others}


class TestFiles:
    def test_no_files(self, site: SiteDirectory) -> None:
        assert load_split(site) is None
        assert load_patients(site) == {}

    def test_a_good_split_and_patients(self, site: SiteDirectory) -> None:
        site.split_file.write_text(json.dumps({"train": ["a", "ä"], "val": ["b"], "test": ["c"]}), encoding="utf-8")
        site.patients_file.write_text(json.dumps({"a": "p1", "ä": "p1"}), encoding="utf-8")
        assert load_split(site) == Split(frozenset({"a", "ä"}), frozenset({"b"}), frozenset({"c"}))
        assert load_patients(site) == {"a": "p1", "ä": "p1"}

    def test_lists_may_be_missing(self, site: SiteDirectory) -> None:
        site.split_file.write_text('{"test": ["c"]}', encoding="utf-8")
        assert load_split(site) == Split(frozenset(), frozenset(), frozenset({"c"}))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("{", "is not JSON"),
            ("[]", "holds a list"),
            ('{"train": [], "validation": []}', "unknown lists validation: expected some of train, val, test"),
            ('{"train": "a"}', "list 'train' is a str"),
            ('{"val": [1]}', "list 'val' holds 1"),
            ('{"val": [""]}', "list 'val' holds ''"),
            ('{"val": ["a", "a"]}', "names case 'a' twice"),
            ('{"train": ["a"], "test": ["a"]}', "lists case 'a' under train and test"),
            ('{"train": ["a"], "val": ["b"]}', "puts cases 'a' .train. and 'b' .validation. of patient 'p1' on two sides"),
        ],
    )
    def test_a_bad_split_is_refused_with_its_path_and_reason(self, site: SiteDirectory, text: str, sentence: str) -> None:
        site.split_file.write_text(text, encoding="utf-8")
        site.patients_file.write_text('{"a": "p1", "b": "p1"}', encoding="utf-8")
        with pytest.raises(SettingError, match=rf"split\.json.*{sentence}"):
            load_split(site)

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"null", "holds a NoneType"),
            (b'{"a": 5}', "gives case 'a' the patient 5"),
            (b'{"a": ""}', "gives case 'a' the patient ''"),
            (b"\xff", "cannot be read"),
        ],
    )
    def test_bad_patients_are_refused_with_path_and_reason(self, site: SiteDirectory, data: bytes, sentence: str) -> None:
        site.patients_file.write_bytes(data)
        with pytest.raises(SettingError, match=rf"patients\.json.*{sentence}"):
            load_patients(site)
