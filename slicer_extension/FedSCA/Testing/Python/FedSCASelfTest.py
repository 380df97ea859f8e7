"""The module's own test, as Slicer's test runner calls it: `Slicer --testing --no-splash --python-script FedSCASelfTest.py`.

It needs no server: a volume is made, masks are written, locked and undone on Slicer's own MRML, and the panel is set up.
Exit code 0: passed.
"""

from __future__ import annotations

import sys
import traceback

import slicer


def main() -> int:
    try:
        import FedSCA

        FedSCA.FedSCATest().runTest()
        slicer.util.selectModule("FedSCA")
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    slicer.util.exit(main()) if hasattr(slicer.util, "exit") else sys.exit(main())
