from pathlib import Path

import numpy as np
import pytest

from sam_adapters.case_loading import load_case
from sam_adapters.cases import labelled_cases
from sam_adapters.evaluation import CaseScore, evaluate, evaluation_case, largest_slices, mean_by_kind, score_cases
from sam_adapters.loading import load_segmenter
from sam_adapters.segmenter import Segmenter
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_studies import SETTINGS, add_volume, make_site


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter(SETTINGS, None, "base")


def test_the_largest_slices_are_chosen_the_first_among_equals() -> None:
    target = np.zeros((5, 4, 4), bool)
    for k, area in enumerate((0, 2, 4, 2, 3)):
        target[k].flat[:area] = True
    assert largest_slices(target, 3) == [1, 2, 4]
    assert largest_slices(target, 1) == [2]
    assert largest_slices(target, None) == [1, 2, 3, 4]
    assert largest_slices(np.zeros((5, 4, 4), bool), 3) == []


def test_prompts_are_the_targets_own(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path)
    add_volume(site, "a", 1)
    one = evaluation_case(load_case(labelled_cases(site, SETTINGS)[0]), 1).slices[0]
    rows, columns = np.nonzero(one.target)
    assert one.prompts("box").box == (columns.min(), rows.min(), columns.max(), rows.max())
    ((x, y, label),) = one.prompts("point").points
    assert one.target[int(y), int(x)]
    assert label == 1
    assert one.prompts("none").empty


def test_scores_of_the_untuned_base(tmp_path: Path, segmenter: Segmenter) -> None:
    site = make_site(tmp_path / "site", train=2, validation=0)
    add_volume(site, "volume", 5)
    cases = labelled_cases(site, SETTINGS)
    calls: list[tuple[int, int]] = []
    scores = evaluate(segmenter, cases, progress=lambda done, total: calls.append((done, total)))
    assert [(score.case, score.kind) for score in scores] == [
        (case, kind) for case in ("t0", "t1", "volume") for kind in ("box", "point", "none")
    ]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    means = mean_by_kind(scores)
    assert means["box"] > 0.8  # the base knows boxes
    assert all(0 <= score.dice <= 1 for score in scores)
    assert evaluate(segmenter, cases) == scores


def test_a_slice_is_encoded_once_for_all_kinds(tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    site = SiteDirectory.open(tmp_path)
    add_volume(site, "a", 1)
    calls: list[int] = []
    encode = segmenter.encode
    monkeypatch.setattr(segmenter, "encode", lambda pixels: calls.append(1) or encode(pixels))
    case = evaluation_case(load_case(labelled_cases(site, SETTINGS)[0]), 2)
    assert len(score_cases(segmenter, [case], ("box", "point", "none"))) == 3
    assert len(calls) == 2


def test_means_and_round_trip() -> None:
    scores = [CaseScore("a", "box", 0.5), CaseScore("a", "point", 0.2), CaseScore("b", "box", 1.0), CaseScore("b", "point", 0.4)]
    assert mean_by_kind(scores) == pytest.approx({"box": 0.75, "point": 0.3})
    assert [CaseScore.from_dict(score.to_dict()) for score in scores] == scores
