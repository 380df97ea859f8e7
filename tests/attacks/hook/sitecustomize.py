"""Python loads this at the start of every process of a federation that is attacked; it acts in the ClientApp processes of sites only.

FEDSCA_STAND_IN: the network's gradients and scores are made up (see `tests/attacks/stand_in.py`), so that no process starts torch.
FEDSCA_ATTACK names the file that says what this site does in which round (see `tests/attacks/member.py`); honest sites have none.
"""

import os
import sys

if "clientapp" in " ".join(sys.orig_argv):
    if os.environ.get("FEDSCA_STAND_IN"):
        from tests.attacks import stand_in

        stand_in.install()
    if os.environ.get("FEDSCA_ATTACK"):
        from tests.attacks import member

        member.install(os.environ["FEDSCA_ATTACK"])
