"""The README's figures are those of the committed result."""

from benchmarks.federated import readme_table
from tests.benchmarks.test_federated_figures import unit


def test_the_readme_says_what_the_result_says() -> None:
    text = readme_table.README.read_text(encoding="utf-8")
    assert text.split(readme_table.BEGIN)[1].split(readme_table.END)[0].strip() == readme_table.table(readme_table.committed())


def test_every_column_is_in_the_committed_result() -> None:
    assert {column.arm for column in readme_table.COLUMNS} <= {unit["arm"] for unit in readme_table.committed()["units"]}


def test_means_and_spread_by_hand() -> None:
    units = [{"arm": "main", **unit("fedsca", seed, 1, dice)} for seed, dice in ((0, 0.8), (1, 0.9))]
    units += [{"arm": "main", **unit("base", 0, 1, 0.5)}]
    lines = readme_table.table({"units": units}).splitlines()
    assert lines[0] == "| Dice | four hospitals with 12 cases | kB a site and round |"
    assert "| **FedSCA**, without gate | 0.850 ± 0.071 | 3 |" in lines, "two sites of 2000 and 4000 bytes"
    assert any(line.startswith("| base, untuned | 0.500 |") for line in lines)
