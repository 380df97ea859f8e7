"""Qt draws into memory, and `qt` and `ctk` are the stand-ins.

Where Qt's system libraries are missing, only `test_qt_is_there.py` is left, and says so.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

try:
    import PySide6.QtWidgets  # noqa: F401 - whether it can be
except ImportError:
    collect_ignore_glob = ["test_[!q]*.py"]
else:
    from .ctk_stand_in import ctk
    from .pythonqt_stand_in import qt

    sys.modules.setdefault("qt", qt)
    sys.modules.setdefault("ctk", ctk)
