"""The README's figures are those of the committed results."""

import pytest

from benchmarks.federated import readme_table
from tests.benchmarks.test_federated_figures import unit


def test_the_readme_says_what_the_results_say() -> None:
    results = readme_table.committed()
    text = readme_table.README.read_text(encoding="utf-8")
    if not results:
        assert readme_table.BEGIN not in text
        pytest.skip("no results of the main tables are committed yet")
    assert text.split(readme_table.BEGIN)[1].split(readme_table.END)[0].strip() == readme_table.table(results)


def test_means_and_spread_by_hand() -> None:
    units = [{"arm": "main", **unit("fedsca", seed, 1, dice)} for seed, dice in ((0, 0.8), (1, 0.9))]
    result = {"configuration": {"kinds": ["box", "none"]}, "units": units}
    lines = readme_table.table({"eyes": result}).splitlines()
    assert lines[0] == "| Dice, mean of hospitals | eyes, box | eyes, no prompt | kB a site and round |"
    line = next(line for line in lines if "FedSCA" in line)
    assert line == "| **FedSCA**, without gate | 0.850 ± 0.071 | - | 3 |", "two sites of 2000 and 4000 bytes"
