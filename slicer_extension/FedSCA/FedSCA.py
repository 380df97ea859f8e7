"""The 3D Slicer module: Module, Widget, Logic and Test, each as thin as it can be. What they do lies in FedSCALib."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import qt
import slicer
from FedSCALib.annotator import Annotator
from FedSCALib.drafts import Drafts
from FedSCALib.jobs import Jobs
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.preferences import FilePreferences, Preferences
from FedSCALib.qt_hands import Hands
from FedSCALib.qt_panel import Panel
from FedSCALib.translate import tr
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

FOLDER = "FedSCA"


class FedSCA(ScriptedLoadableModule):  # type: ignore[misc]  # Slicer's classes have no types
    """What Slicer lists."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "FedSCA Label"
        parent.categories = [tr("Segmentation"), tr("Servers")]
        parent.dependencies = ["Segmentations", "Volumes", "Markups"]
        parent.contributors = ["The FedSCA Label authors"]
        parent.helpText = tr(
            "Annotate images with a model that runs on your hospital's own server and learns from your corrections. "
            "No information is sent anywhere until you press Connect; "
            "then images and labels go to the address that you typed, and nowhere else."
        )
        parent.acknowledgementText = tr("The method is FedSCA (arXiv 2503.15390). The segmentation network comes from the server.")
        icon = Path(__file__).parent / "Resources" / "Icons" / "FedSCA.png"
        if icon.exists():
            parent.icon = qt.QIcon(str(icon))


class FedSCALogic(ScriptedLoadableModuleLogic):  # type: ignore[misc]  # Slicer's classes have no types
    """The annotator on Slicer's scene: what works without any widget.

    Args:
        folder: for drafts and preferences; by default beside Slicer's own settings.
    """

    def __init__(self, folder: Optional[Path] = None, preferences: Optional[Preferences] = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        folder = folder or default_folder()
        self.jobs = Jobs()
        self.canvas = MrmlCanvas(slicer.mrmlScene)
        self.annotator = Annotator(
            jobs=self.jobs,
            canvas=self.canvas,
            drafts=Drafts(folder / "drafts"),
            preferences=preferences or FilePreferences(folder / "preferences.json"),
            viewer="slicer",
        )

    def close(self) -> bool:
        """Save what was not submitted and end the threads; whether all had ended in time."""
        return self.annotator.close(5.0)


class FedSCAWidget(ScriptedLoadableModuleWidget):  # type: ignore[misc]  # Slicer's classes have no types
    """The panel in Slicer's module area."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic: Any = None
        self.panel: Any = None
        self.hands: Any = None

    def setup(self) -> None:
        """Make the panel. Nothing is asked of any server."""
        ScriptedLoadableModuleWidget.setup(self)
        root = slicer.util.loadUI(self.resourcePath("UI/FedSCA.ui"))
        self.layout.addWidget(root)
        self.ui = slicer.util.childWidgetVariables(root)
        root.setMRMLScene(slicer.mrmlScene)
        self.logic = FedSCALogic()
        annotator = self.logic.annotator
        self.hands = Hands(self.ui, annotator, self.logic.canvas)
        icons = Path(self.resourcePath("Icons"))
        self.panel = Panel(self.ui, root, annotator, icons, slicer.util.mainWindow(), self.hands)
        self.panel.start()

    def enter(self) -> None:
        """The module is shown: its keys work."""
        if self.panel is not None:
            self.panel.keys.enable(True)
            self.hands.enter()

    def exit(self) -> None:
        """Another module is shown: the keys are its own again, and nothing is placed by accident."""
        if self.panel is not None:
            self.panel.keys.enable(False)
            self.hands.leave()

    def cleanup(self) -> None:
        """Slicer closes, or the module is reloaded."""
        if self.panel is None:
            return
        self.panel.close()
        self.hands.close()
        self.logic.close()
        self.panel = None


class FedSCATest(ScriptedLoadableModuleTest):  # type: ignore[misc]  # Slicer's classes have no types
    """Runs inside Slicer ("Reload and Test"), without a server: see Testing/Python for what it does."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def runTest(self) -> None:
        self.setUp()
        self.test_masks_and_undo()

    def test_masks_and_undo(self) -> None:
        """A volume of this scene, a mask written into it, and what a locked label keeps."""
        from FedSCALib.mrml_self_test import masks_and_locks

        self.delayDisplay("Masks and locks")
        masks_and_locks(slicer.mrmlScene)
        self.delayDisplay("Passed")


def default_folder() -> Path:
    """Where drafts and preferences lie: beside Slicer's settings, which every user has for himself."""
    settings = slicer.app.slicerUserSettingsFilePath
    return Path(settings).parent / FOLDER if settings else Path(slicer.app.temporaryPath) / FOLDER
