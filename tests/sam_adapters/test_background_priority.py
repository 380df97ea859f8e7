import os
import subprocess
import sys

import pytest

SCRIPT = "from sam_adapters.background_priority import yield_to_others; import os; print(yield_to_others(), os.nice(0))"


@pytest.mark.skipif(not hasattr(os, "nice"), reason="there is no niceness on this system")
def test_a_process_steps_back() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, encoding="utf-8", timeout=60, check=True)
    how, niceness = answer.stdout.split()
    assert how == "nice"
    assert int(niceness) > os.nice(0)
