"""How the panel looks: colours for a light and a dark palette, one style sheet made of them, and the icons that fit.

Slicer can be light or dark; the panel asks the palette and follows when it is changed. Colours are named by what they mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import qt

Colours = Dict[str, str]  # name -> "#rrggbb"

LIGHT: Colours = {
    "window": "#eef1f4",
    "card": "#ffffff",
    "edge": "#d3dae1",
    "field": "#ffffff",
    "text": "#1d2733",
    "muted": "#5a6877",
    "button": "#f4f6f8",
    "hover": "#e6ebf0",
    "accent": "#0b6bcb",
    "accent_text": "#ffffff",
    "accent_soft": "#dcebfb",
    "good": "#15803d",
    "good_hover": "#116b33",
    "good_soft": "#e0f4e7",
    "warn": "#a15c00",
    "warn_soft": "#fdf0d8",
    "bad": "#c02626",
    "bad_soft": "#fde5e5",
    "info_soft": "#e7f0fa",
    "disabled": "#8d98a4",
}
DARK: Colours = {
    "window": "#1d2127",
    "card": "#282d35",
    "edge": "#3b434e",
    "field": "#1f242b",
    "text": "#e6ebf1",
    "muted": "#a0acb9",
    "button": "#323943",
    "hover": "#3d4652",
    "accent": "#4a9eff",
    "accent_text": "#0c1726",
    "accent_soft": "#203a57",
    "good": "#2f9e5b",
    "good_hover": "#38b76a",
    "good_soft": "#1e3a2a",
    "warn": "#f0b04a",
    "warn_soft": "#433315",
    "bad": "#ff7b7b",
    "bad_soft": "#4a2427",
    "info_soft": "#22344a",
    "disabled": "#6b7683",
}

SHEET = """
#FedSCA { background: @window; }
#FedSCA QLabel, #FedSCA QCheckBox { color: @text; background: transparent; }
QFrame#headerCard, QFrame#connectionCard, QFrame#caseCard, QFrame#labelsCard, QFrame#toolsCard {
  background: @card; border: 1px solid @edge; border-radius: 8px; }
QFrame#baseFact, QFrame#versionFact, QFrame#tuningFact, QFrame#roundFact { background: @window; border: none; border-radius: 6px; }
#FedSCA #siteLabel, #FedSCA #caseName { font-weight: 600; font-size: 15px; }
#FedSCA #labelsTitle, #FedSCA #connectionTitle { font-weight: 600; }
#FedSCA #addressLabel, #FedSCA #caseDetail, #FedSCA #labelsHint, #FedSCA #polarityKey, #FedSCA #optInLabel, #FedSCA #baseCaption,
#FedSCA #versionCaption, #FedSCA #tuningCaption, #FedSCA #roundCaption, #FedSCA #strategyCaption, #FedSCA #tagCaption, #FedSCA #caLabel,
#FedSCA #submitState, #FedSCA #keysHelp, #FedSCA #brushCaption, #FedSCA #brushValue, #FedSCA #versionDetail {
  color: @muted; font-size: 11px; }
#FedSCA #baseValue, #FedSCA #versionValue, #FedSCA #tuningValue, #FedSCA #roundValue { font-weight: 600; font-size: 12px; }
#FedSCA #connectionDot { font-size: 18px; color: @disabled; }
#FedSCA #connectionDot[state="on"] { color: @good; }
#FedSCA #connectionDot[state="connecting"], #FedSCA #connectionDot[state="login"] { color: @warn; }
#FedSCA #connectionDot[state="lost"] { color: @bad; }

#FedSCA QPushButton, #FedSCA QToolButton { background: @button; color: @text; border: 1px solid @edge; border-radius: 6px;
  padding: 3px 8px; }
#FedSCA QToolButton { padding: 3px 3px; font-size: 12px; }
#FedSCA #pointTool, #FedSCA #boxTool, #FedSCA #scribbleTool, #FedSCA #paintTool, #FedSCA #eraseTool { padding: 3px 0px; font-size: 11px; }
#FedSCA QPushButton:hover, #FedSCA QToolButton:hover { background: @hover; }
#FedSCA QPushButton:pressed, #FedSCA QToolButton:pressed { background: @accent_soft; }
#FedSCA QPushButton:disabled, #FedSCA QToolButton:disabled { color: @disabled; background: transparent; }
#FedSCA QPushButton:focus { border: 1px solid @accent; }
#FedSCA QToolButton:checked { background: @accent_soft; border: 2px solid @accent; font-weight: 600; }
#FedSCA QToolButton#includeButton:checked { background: @good_soft; border: 2px solid @good; }
#FedSCA QToolButton#excludeButton:checked { background: @bad_soft; border: 2px solid @bad; }
#FedSCA QToolButton:checked:disabled { background: transparent; border: 1px solid @edge; font-weight: 400; }
#FedSCA QToolButton#includeButton:checked:disabled, #FedSCA QToolButton#excludeButton:checked:disabled { background: transparent;
  border: 1px solid @edge; }
#FedSCA QPushButton#connectButton, #FedSCA QPushButton#nextButton[primary="true"] {
  background: @accent; color: @accent_text; border: none; font-weight: 600; }
#FedSCA QPushButton#connectButton:disabled, #FedSCA QPushButton#nextButton:disabled { background: @button; color: @disabled; }
#FedSCA QPushButton#submitButton { background: @good; color: #ffffff; border: none; border-radius: 8px; font-size: 16px; font-weight: 700; }
#FedSCA QPushButton#submitButton:hover { background: @good_hover; }
#FedSCA QPushButton#submitButton:disabled { background: @button; color: @disabled; border: 1px solid @edge; }

#FedSCA QLineEdit, #FedSCA QComboBox {
  background: @field; color: @text; border: 1px solid @edge; border-radius: 6px; padding: 3px 6px; min-height: 20px;
  selection-background-color: @accent; selection-color: @accent_text; }
#FedSCA QLineEdit:focus, #FedSCA QComboBox:focus { border: 1px solid @accent; }
#FedSCA QComboBox::drop-down { border: none; width: 20px; }
#FedSCA QComboBox::down-arrow { image: url("@icons/down-@palette.png"); width: 10px; height: 10px; }
#FedSCA QCheckBox::indicator { width: 14px; height: 14px; border: 1px solid @muted; border-radius: 4px; background: @field; }
#FedSCA QCheckBox::indicator:checked { background: @accent; border: 1px solid @accent; image: url("@icons/check.png"); }
#FedSCA QCheckBox { spacing: 6px; }
#FedSCA QComboBox:disabled, #FedSCA QLineEdit:disabled { color: @disabled; }
#FedSCA QComboBox QAbstractItemView { background: @card; color: @text; selection-background-color: @accent; selection-color: @accent_text; }
#FedSCA QComboBox QLineEdit { border: none; padding: 0; }
#FedSCA QTreeWidget {
  background: @field; color: @text; border: 1px solid @edge; border-radius: 6px; alternate-background-color: @window; outline: none; }
#FedSCA QTreeWidget::item { min-height: 24px; }
#FedSCA QTreeWidget::item:selected { background: @accent_soft; color: @text; }
#FedSCA QHeaderView::section { background: @card; color: @muted; border: none; border-bottom: 1px solid @edge; padding: 3px 6px; }

QFrame#noticeBar { border-radius: 6px; border: 1px solid @edge; background: @card; }
QFrame#noticeBar[kind="info"] { background: @info_soft; border: 1px solid @accent; }
QFrame#noticeBar[kind="warning"] { background: @warn_soft; border: 1px solid @warn; }
QFrame#noticeBar[kind="error"] { background: @bad_soft; border: 1px solid @bad; }
#FedSCA QFrame#noticeBar[kind="hint"] #noticeText { color: @muted; }
QFrame#activityStrip { background: @window; border-radius: 6px; border: none; }
#FedSCA #activityText { color: @muted; }
#FedSCA QFrame#activityStrip[busy="true"] #activityText { color: @text; }
#FedSCA QProgressBar { background: @edge; border: none; border-radius: 2px; }
#FedSCA QProgressBar::chunk { background: @accent; border-radius: 2px; }
"""


def is_dark(widget: Any) -> bool:
    """Whether the widget's palette has light text on a dark ground."""
    return bool(widget.palette.color(qt.QPalette.Window).lightness() < 128)


def sheet(dark: bool, icons: Path) -> str:
    """The panel's style sheet for one kind of palette; `icons` is the folder that they lie in."""
    text = SHEET.replace("@icons", icons.as_posix()).replace("@palette", "dark" if dark else "light")
    colours = DARK if dark else LIGHT
    for name in sorted(colours, key=len, reverse=True):
        text = text.replace("@" + name, colours[name])
    return text


def mark(widget: Any, name: str, value: str, *dependents: Any) -> None:
    """Give a widget a property that the style sheet looks at, and have it, and others whose looks depend on it, drawn anew."""
    if widget.property(name) == value:
        return
    widget.setProperty(name, value)
    style = widget.style()
    for shown in (widget, *dependents):
        style.unpolish(shown)
        style.polish(shown)


class Icons:
    """The icons of one palette, each read once."""

    def __init__(self, folder: Path, dark: bool) -> None:
        self._folder = folder
        self._palette = "dark" if dark else "light"
        self._read: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        if name not in self._read:
            coloured = self._folder / f"{name}.png"
            path = coloured if coloured.exists() else self._folder / f"{name}-{self._palette}.png"
            self._read[name] = qt.QIcon(str(path))
        return self._read[name]
