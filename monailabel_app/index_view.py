"""The datastore's index as readers see it: a copy that nobody changes, made after each change. No locks, no disk."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.datastore.local import ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag

FINAL = DefaultLabelTag.FINAL.value


@dataclass(frozen=True)
class IndexView:
    """Images and labels at one moment.

    Attributes:
        objects: by case; its values are not to be changed.
        images: folder of the images.
        labels: folder of the tags' folders.
    """

    objects: Mapping[str, ImageLabelModel]
    images: Path
    labels: Path

    def image_path(self, case: str) -> str:
        """Path of an image; "" for an unknown one."""
        known = self.objects.get(case)
        return os.path.realpath(self.images / (case + known.image.ext)) if known else ""

    def label_path(self, case: str, tag: str) -> str:
        """Path of a label; "" for an unknown one."""
        known = self.objects.get(case)
        label = known.labels.get(tag) if known else None
        return os.path.realpath(self.labels / tag / (case + label.ext)) if label else ""

    def image_info(self, case: str) -> dict[str, Any]:
        """What is kept about an image, and its path; empty for an unknown one."""
        known = self.objects.get(case)
        return {**known.image.info, "path": self.image_path(case)} if known else {}

    def label_info(self, case: str, tag: str) -> dict[str, Any]:
        """What is kept about a label; empty for an unknown one."""
        known = self.objects.get(case)
        label = known.labels.get(tag) if known else None
        return dict(label.info) if label else {}

    def labelled(self) -> list[str]:
        """Cases with a final label."""
        return [case for case, known in self.objects.items() if known.labels.get(FINAL)]

    def unlabelled(self) -> list[str]:
        """Cases without a final label."""
        return [case for case, known in self.objects.items() if not known.labels.get(FINAL)]

    def pairs(self) -> list[dict[str, Any]]:
        """Paths of image and final label of each labelled case."""
        return [{"image": self.image_path(case), "label": self.label_path(case, FINAL)} for case in self.labelled()]

    def counts(self) -> dict[str, Any]:
        """Images, labelled images, and labels by tag."""
        tags = Counter(tag for known in self.objects.values() for tag in known.labels)
        return {"total": len(self.objects), "completed": len(self.labelled()), "label_tags": dict(tags)}
