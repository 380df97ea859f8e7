"""What the Extensions Index builds is complete: every file is listed, the description is there, and the installed library runs."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slicer_extension.staging import CMAKE, ROOT, configure, staged_module

EXTENSION = ROOT / "slicer_extension"
MODULE = EXTENSION / "FedSCA"
DRAWINGS = ".svg"  # icons are drawn as SVG and shown as PNG
needs_cmake = pytest.mark.skipif(CMAKE is None, reason="CMake is not installed: apt install cmake, or pip install cmake")


def listed(name: str) -> list[str]:
    """A list of the module's CMakeLists.txt, in its order."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.search(rf"set\({name}\s(.*?)\)", text, re.DOTALL)
    assert found is not None
    return found.group(1).split()


def files(folder: Path, *endings: str) -> set[str]:
    """Files below a folder, from the module's folder; all but drawings where no endings are named."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(MODULE).as_posix() for path in paths if (path.suffix in endings if endings else path.suffix != DRAWINGS)}


def lines_to_paste(missing: set[str]) -> str:
    return "In slicer_extension/FedSCA/CMakeLists.txt is missing:\n" + "\n".join(f"  {path}" for path in sorted(missing))


def test_every_script_is_listed() -> None:
    wanted = {"FedSCA.py"} | files(MODULE / "FedSCALib", ".py")
    assert not wanted - set(listed("MODULE_PYTHON_SCRIPTS")), lines_to_paste(wanted - set(listed("MODULE_PYTHON_SCRIPTS")))


def test_every_resource_is_listed() -> None:
    wanted = files(MODULE / "Resources")
    assert wanted
    assert not wanted - set(listed("MODULE_PYTHON_RESOURCES")), lines_to_paste(wanted - set(listed("MODULE_PYTHON_RESOURCES")))


@pytest.mark.parametrize("name", ["MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"])
def test_lists_are_in_order_and_name_files_that_are_there(name: str) -> None:
    found = listed(name)
    assert found == sorted(set(found))
    assert [path for path in found if not (MODULE / path).is_file()] == []


@needs_cmake
def test_an_installation_holds_all_and_its_library_runs_by_itself(tmp_path: Path) -> None:
    folder = staged_module(tmp_path)
    installed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert installed == set(listed("MODULE_PYTHON_SCRIPTS")) | set(listed("MODULE_PYTHON_RESOURCES"))
    plain = sorted(path.stem for path in (folder / "FedSCALib").glob("*.py") if not path.name.startswith(("mrml_", "qt_", "__")))
    blocked = ["slicer", "vtk", "qt", "ctk", "torch", "sam_adapters", "monailabel_app", "fed_backend", "monailabel"]
    code = f"import importlib, sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"  # None there: importing it is an error
    code += f"for name in {plain!r}: importlib.import_module('FedSCALib.' + name)"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*.py")))
def test_scripts_are_written_in_python_3_9(path: str) -> None:
    """Slicer 5.0 to 5.8 embed Python 3.9."""
    source = (MODULE / path).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 9))
    assert "from __future__ import annotations" in source or "def " not in source


@needs_cmake
def test_the_extensions_own_folder_can_be_built_too_with_its_tests(tmp_path: Path) -> None:
    configure(EXTENSION, tmp_path, testing=True)
    assert (tmp_path / "tests.txt").read_text(encoding="utf-8").split() == ["FedSCA.py", "FedSCASelfTest.py"]


@needs_cmake
def test_the_description_is_complete(tmp_path: Path) -> None:
    configure(ROOT, tmp_path)
    description = dict(line.split("=", 1) for line in (tmp_path / "description.txt").read_text(encoding="utf-8").splitlines())
    entry = json.loads((ROOT / "FedSCALabel.json").read_text(encoding="utf-8"))
    assert description["CATEGORY"] == entry["category"]
    assert description["DEPENDS"] == "NA"
    assert description["CONTRIBUTORS"]
    assert 60 < len(description["DESCRIPTION"]) < 400
    assert "nothing is sent before you connect" in description["DESCRIPTION"]
    for url in [description["ICONURL"], *description["SCREENSHOTURLS"].split()]:
        assert url.startswith(description["HOMEPAGE"])
        assert (ROOT / url.split("/raw/main/")[1]).is_file(), f"{url}: there is no such file in the repository"


def test_the_index_entry_is_what_the_schema_asks_for() -> None:
    """Version 1.0.2 of Slicer's schema for catalog entries."""
    entry = json.loads((ROOT / "FedSCALabel.json").read_text(encoding="utf-8"))
    assert entry["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    types = {"$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list}
    types |= {"build_subdirectory": str, "dicom_support_rule": str, "enabled": bool, "tier": int}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(types)
    assert all(isinstance(value, types[key]) for key, value in entry.items())
    assert entry["scm_type"] in ("git", "local")
    assert 1 <= entry["tier"] <= 5


def test_the_extension_carries_the_licence() -> None:
    assert (EXTENSION / "LICENSE.txt").read_text(encoding="utf-8") == (ROOT / "LICENSE").read_text(encoding="utf-8")
