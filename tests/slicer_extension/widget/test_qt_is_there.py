"""The panel's tests need Qt, whose wheel needs libraries of the system: where those are missing, this skip stands for all of them."""

import pytest


def test_qt_can_be_loaded() -> None:
    try:
        from PySide6 import QtWidgets
    except ImportError as error:
        pytest.skip(f"the panel is not tested: {error} (Debian: apt install libegl1 libgl1 libxkbcommon0 libfontconfig1 libdbus-1-3)")
    assert QtWidgets.QWidget is not None
