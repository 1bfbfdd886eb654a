"""The archive that travels: the same tree gives the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
RUNTIME = PROJECT / "runtime"
PYTHONS = [p for p in ("3.9.18", "3.12.1", "3.13.0") if Path(f"/root/.pyenv/versions/{p}/bin/python").exists()]


def build(python: str, tree: Path, target: Path, *, umask: int) -> bytes:
    command = [python, str(tree / "archive.py"), "build", str(target)]
    subprocess.run(command, check=True, capture_output=True, umask=umask)
    return target.read_bytes()


def test_the_same_tree_elsewhere_with_other_modes_and_times_gives_the_same_archive(tmp_path: Path) -> None:
    here = build(sys.executable, RUNTIME, tmp_path / "here.zip", umask=0o022)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(RUNTIME, elsewhere, ignore=shutil.ignore_patterns("__pycache__"))
    for path in elsewhere.rglob("*.py"):
        os.chmod(path, 0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert build(sys.executable, elsewhere, tmp_path / "there.zip", umask=0o077) == here, "only names and contents count"


@pytest.mark.parametrize("python", PYTHONS)
def test_another_python_gives_the_same_archive(tmp_path: Path, python: str) -> None:
    here = build(sys.executable, RUNTIME, tmp_path / "here.zip", umask=0o022)
    other = build(f"/root/.pyenv/versions/{python}/bin/python", RUNTIME, tmp_path / "other.zip", umask=0o022)
    assert other == here, "all controllers with one version send one digest"


def test_the_archive_holds_sources_only_and_the_licence_of_what_comes_along(tmp_path: Path) -> None:
    names = zipfile.ZipFile(io.BytesIO(build(sys.executable, RUNTIME, tmp_path / "a.zip", umask=0o022))).namelist()
    assert names[0] == "__main__.py" and names[1:] == sorted(names[1:]), "names are sorted"
    assert not [name for name in names if "__pycache__" in name], "no bytecode travels"
    assert any(name.endswith("LICENSE") for name in names), "a licence travels with what it is for"
