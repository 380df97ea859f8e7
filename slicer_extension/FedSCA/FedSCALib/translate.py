"""Strings for people, through Slicer's translations where there are some."""

from __future__ import annotations

from typing import Any, Callable

CONTEXT = "FedSCA"


def _find() -> Callable[[str], str]:
    try:
        from slicer import i18n  # only inside desktop Slicer 5.4 and newer
    except ImportError:
        return str
    translate: Any = i18n.translate

    def inside_slicer(text: str) -> str:
        return str(translate(CONTEXT, text))

    return inside_slicer


_translate = _find()


def tr(text: str) -> str:
    """The text in the user's language; itself where there is no translation."""
    return _translate(text)
