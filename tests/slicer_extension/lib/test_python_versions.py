"""Slicer 5.x brings Python 3.9 to 3.12: everything of the extension must at least be read by the oldest."""

import ast
import importlib
from pathlib import Path

import FedSCALib
import pytest

MODULE = Path(FedSCALib.__file__).parent.parent
FILES = sorted([MODULE / "FedSCA.py", *(MODULE / "FedSCALib").glob("*.py")])
NEWER = {"slots", "kw_only", "strict"}  # keywords of dataclass (3.10) and zip (3.10)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_python_3_9_reads_it(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
    annotated = any(isinstance(node, ast.FunctionDef | ast.AnnAssign) for node in ast.walk(tree))
    later = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    assert later or not annotated, "annotations are evaluated: add `from __future__ import annotations`"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("dataclass", "zip"):
            assert not NEWER & {keyword.arg for keyword in node.keywords}
        assert not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance" and _union(node.args[1])
        )


@pytest.mark.parametrize(
    "file", [file for file in FILES if not file.stem.startswith(("mrml_", "qt_", "FedSCA", "parameter_node"))], ids=lambda f: f.stem
)
def test_what_is_not_slicers_or_qts_imports_without_them(file: Path) -> None:
    importlib.import_module("FedSCALib" if file.stem == "__init__" else f"FedSCALib.{file.stem}")
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"vtk", "qt", "ctk", "torch", "SimpleITK", "trame"}
    assert "slicer" not in imported or file.stem == "translate"  # which does without where there is none


def _union(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
