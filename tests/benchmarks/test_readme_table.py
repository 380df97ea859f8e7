"""The README's figures are those of the committed results."""

from benchmarks.federated import readme_table
from tests.benchmarks.test_federated_figures import unit


def test_the_readme_says_what_the_result_says() -> None:
    text = readme_table.README.read_text(encoding="utf-8")
    assert text.split(readme_table.BEGIN)[1].split(readme_table.END)[0].strip() == readme_table.table(readme_table.committed())


def test_every_column_is_in_the_committed_results() -> None:
    results = readme_table.committed()
    for column in readme_table.COLUMNS:
        assert column.arm in {unit["arm"] for unit in results[column.result]["units"]}
    assert all(len({unit["seed"] for unit in result["units"]}) >= 3 for result in results.values())


def test_means_and_spread_by_hand() -> None:
    units = [{"arm": "main", **unit("fedsca", seed, 1, dice)} for seed, dice in ((0, 0.8), (1, 0.9))]
    units += [{"arm": "main", **unit("base", seed, 1, 0.5)} for seed in (0, 1)]
    units += [{"arm": "main", **unit(method, 0, 1, 0.6)} for method in ("local", "pooled")]
    others = [{"arm": "main", **unit("fedsca", 0, 1, 0.7)}, {"arm": "main", **unit("local", 0, 1, 0.65)}]
    lines = readme_table.table({readme_table.TUMOURS: {"units": units}, readme_table.TUMOURS_128: {"units": others}}).splitlines()
    assert lines[0] == "| Dice | tumours, 12 cases each | at 128 px | kB a site and round |"
    assert "| **FedSCA**, without gate | 0.850 ± 0.071 | 0.700 | 3 |" in lines, "two sites of 2000 and 4000 bytes"
    assert any(line.startswith("| base, untuned | 0.500 ± 0.000 | - |") for line in lines)
    assert any(line.startswith("| local only | - | 0.650 |") for line in lines), "one of the first column's two seeds"
    assert not any("pooled" in line for line in lines), "a method without a figure has no row"
