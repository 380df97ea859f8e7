"""What the module keeps in the MRML scene, so that it is saved with it: typed fields on a plain vtkMRMLScriptedModuleNode.

Slicer's own parameterNodeWrapper is missing in the slicer-core wheel, and in Slicer before 5.2. What belongs to the computer and not
to the scene (address, user, keys) is in the preferences.
The node is handed in: nothing here imports Slicer.
"""

from __future__ import annotations

from typing import Any, Callable, Generic, TypeVar, overload

Value = TypeVar("Value")


class Field(Generic[Value]):
    """One parameter of the node, read and written as text.

    A text that cannot be read (an older or newer version wrote the scene) counts as the default.
    """

    def __init__(self, default: Value, read: Callable[[str], Value], write: Callable[[Value], str] = str) -> None:
        self._default = default
        self._read = read
        self._write = write
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Field[Value]: ...
    @overload
    def __get__(self, instance: ParameterNode, owner: type) -> Value: ...
    def __get__(self, instance: ParameterNode | None, owner: type) -> Field[Value] | Value:
        if instance is None:
            return self
        text = instance.node.GetParameter(self._name)
        try:
            return self._read(text) if text else self._default
        except ValueError:
            return self._default

    def __set__(self, instance: ParameterNode, value: Value) -> None:
        text = self._write(value)
        self._read(text)  # refuses what could not be read again
        if instance.node.GetParameter(self._name) != text:
            instance.node.SetParameter(self._name, text)


def text(default: str = "") -> Field[str]:
    """Any text."""
    return Field(default, str)


def whole_number(default: int) -> Field[int]:
    """A whole number."""
    return Field(default, int)


def flag(default: bool) -> Field[bool]:
    """True or false."""
    return Field(default, lambda stored: _one_of(("true", "false"))(stored) == "true", lambda value: "true" if value else "false")


def choice(default: str, *others: str) -> Field[str]:
    """One of some words."""
    return Field(default, _one_of((default, *others)))


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def read(stored: str) -> str:
        if stored not in words:
            raise ValueError(f"{stored!r}: expected one of {', '.join(words)}")
        return stored

    return read


class ParameterNode:
    """The module's parameters in a scene.

    Args:
        node: a vtkMRMLScriptedModuleNode.
    """

    case = text()
    tag = text("final")
    label = text()
    tool = choice("point", "box", "scribble", "paint", "erase", "none")
    mode = choice("replace", "add", "subtract")
    positive = flag(True)
    review = flag(False)

    VOLUME = "volume"
    SEGMENTATION = "segmentation"

    def __init__(self, node: Any) -> None:
        self.node = node

    @property
    def volume(self) -> Any:
        """The volume node that is annotated; None without one."""
        return self.node.GetNodeReference(self.VOLUME)

    @volume.setter
    def volume(self, node: Any) -> None:
        self.node.SetNodeReferenceID(self.VOLUME, node.GetID() if node is not None else None)

    @property
    def segmentation(self) -> Any:
        """Its segmentation node; None without one."""
        return self.node.GetNodeReference(self.SEGMENTATION)

    @segmentation.setter
    def segmentation(self, node: Any) -> None:
        self.node.SetNodeReferenceID(self.SEGMENTATION, node.GetID() if node is not None else None)
