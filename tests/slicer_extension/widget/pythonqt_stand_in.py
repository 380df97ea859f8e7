"""A stand-in for Slicer's `qt` module (PythonQt), made of PySide6: enough of its manners to run a scripted module's widget without Slicer.

What PythonQt does and this does too:

- one flat module: `qt.QPushButton`, `qt.QTimer`, `qt.QColor`, `qt.Qt`;
- a Qt property is a Python attribute, not a pair of methods: `edit.text` is a string, `button.checked = True` works;
- `object.connect("clicked(bool)", function)`, with the signal as C++ writes it; a signal that does not exist is an error;
- setting an attribute that is no property is an error, except on classes that Python code derived;
- methods take no keyword arguments.

What it cannot show: Qt 5 against Qt 6, PythonQt's conversions between C++ and Python types, ownership of objects.
"""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

MODULES = (QtCore, QtGui, QtWidgets)
VIRTUAL = {"sizeHint", "minimumSizeHint"}  # Qt calls these back by name: a property in their place would be called
_made: dict[type, type] = {}
_patched: set[type] = set()


class QtModule(types.ModuleType):
    """`qt`: every class of QtCore, QtGui and QtWidgets under one name, made when first asked for."""

    def __getattr__(self, name: str) -> Any:
        for module in MODULES:
            found = getattr(module, name, None)
            if found is None:
                continue
            value = stand_in(found) if isinstance(found, type) and issubclass(found, QtCore.QObject) else found
            setattr(self, name, value)
            return value
        raise AttributeError(f"qt has no {name}")


def stand_in(cls: type) -> type:
    """The class that plays a Qt class derived from QObject."""
    if cls not in _made:
        _give_properties(cls)
        _made[cls] = type(cls)(cls.__name__, (_Manners, cls), {"__module__": "qt", "_is_wrapper": True})
    return _made[cls]


class _Manners:
    """connect() by a signal's C++ signature, and no unknown attributes."""

    _is_wrapper = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.connect = _connect  # PySide6 looks for this one name in the class itself before it takes its own
        if hasattr(cls, "exec"):
            cls.exec_ = cls.exec

    def __setattr__(self, name: str, value: Any) -> None:
        # PythonQt lets only classes that Python derived have attributes of their own.
        if "_is_wrapper" in type(self).__dict__ and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        super().__setattr__(name, value)


def _connect(self: Any, signal: str, function: Callable[..., Any]) -> bool:
    return bool(getattr(self, _checked_signal(self, signal)).connect(function))


def _checked_signal(sender: Any, signal: str) -> str:
    meta = sender.metaObject()
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signal).data())
    known = {bytes(meta.method(index).methodSignature().data()) for index in range(meta.methodCount())}
    name = signal.split("(", 1)[0]
    # Qt 5 writes QString where a signal of a Python-made widget says object: names are what counts for those.
    if normal not in known and not any(entry.startswith(name.encode() + b"(") for entry in known if b"PyObject" in entry):
        raise ValueError(f"{meta.className()} has no signal {signal}")
    return name


def _give_properties(cls: type) -> None:
    for base in reversed(cls.__mro__):
        meta = base.__dict__.get("staticMetaObject")
        if meta is None or base in _patched:
            continue
        _patched.add(base)
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            name = meta.property(index).name()
            if name not in VIRTUAL:
                setattr(base, name, Attribute(base, name))


class Attribute:
    """A Qt property of an instance; on the class it is what the class has of that name (`QTimer.singleShot` is both)."""

    def __init__(self, base: type, name: str) -> None:
        self._name = name
        self._own = getattr(base, name, None)
        self._getter = base.__dict__.get(name)
        self._setter = getattr(base, "set" + name[0].upper() + name[1:], None)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self._own
        if callable(self._getter) and not isinstance(self._getter, staticmethod):
            return self._getter(instance)
        return QtCore.QObject.property(instance, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        if self._setter is not None:
            self._setter(instance, value)
        elif not QtCore.QObject.setProperty(instance, self._name, value):
            raise AttributeError(f"{self._name} cannot be set")


def _keep_none() -> None:
    """Give None references to spare, more than a test run can use up.

    PySide6 6.12 gives back one reference to None too many for every method that returns nothing. Since Python 3.12 None is immortal;
    before, the interpreter dies of it after some 40,000 calls.
    """
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


_keep_none()
qt = QtModule("qt")
