"""The script `bayplan` of a distribution: it finds the package without Python's site module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime"
LIBRARY = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """As pip leaves it: the script beside an interpreter, and a place for packages."""
    for directory in (tmp_path / "bin", tmp_path / LIBRARY):
        directory.mkdir(parents=True)
    shutil.copy(RUNTIME / "launcher" / "bayplan", tmp_path / "bin")
    (tmp_path / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    return tmp_path


def _version(environment: Path) -> str:
    told = subprocess.run([environment / "bin" / "bayplan", "version"], capture_output=True, text=True)
    assert told.returncode == 0, f"the command starts: {told.stderr}"
    return told.stdout


@pytest.mark.parametrize("lines", ["{0}", "{0}\n", "{0}\n{0}", "{0}\n{0}\n"])
def test_it_follows_an_editable_install_whatever_number_of_packages_that_has(environment: Path, lines: str) -> None:
    (environment / LIBRARY / "_editable_impl_bayplan.pth").write_text(lines.format(RUNTIME))
    assert _version(environment).startswith("Version: ")


def test_it_takes_the_installed_package_first(environment: Path) -> None:
    (environment / LIBRARY / "bayplan").symlink_to(RUNTIME / "bayplan")
    (environment / LIBRARY / "_editable_impl_bayplan.pth").write_text("/elsewhere\n")
    assert _version(environment).startswith("Version: ")
