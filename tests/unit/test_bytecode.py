"""All bytecode of a runtime in one file: read where it fits the interpreter, ignored where it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bayplan import bytecode, compilation

PROGRAM = """
import sys
sys.path[:0] = [{runtime!r}, {directory!r}]
from bayplan import bytecode
del sys.modules["bayplan"]
bytecode.use({directory!r})
import bayplan.part.inner as found
print(found.VALUE, found.__file__, found.__package__)
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    package = tmp_path / "bayplan" / "part"
    package.mkdir(parents=True)
    for directory in (package.parent, package):
        (directory / "__init__.py").write_text("")
    (package / "inner.py").write_text("VALUE = 'compiled'\n")
    compilation.write(str(tmp_path), str(tmp_path))
    return tmp_path


def imported(directory: Path) -> str:
    program = PROGRAM.format(runtime=str(Path(bytecode.__file__).parents[1]), directory=str(directory))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_module_is_imported_from_the_file_with_its_place_and_package(unpacked: Path) -> None:
    inner = unpacked / "bayplan" / "part" / "inner.py"
    inner.write_text("VALUE = 'from the directory'\n")
    assert imported(unpacked) == f"compiled {inner} bayplan.part", "the file is read, and the module knows where its source is"


def test_bytecode_of_another_interpreter_is_ignored(unpacked: Path) -> None:
    file = unpacked / bytecode.NAME
    file.write_bytes(b"\0\0\0\0" + file.read_bytes()[4:])
    assert "No module named" in imported(unpacked), "nothing is taken from it"


@pytest.mark.parametrize("left", [0, 3, 10, -1])
def test_a_file_that_was_cut_off_is_ignored(unpacked: Path, left: int) -> None:
    file = unpacked / bytecode.NAME
    file.write_bytes(file.read_bytes()[:left])
    assert "No module named" in imported(unpacked), "nothing is taken from it"


def test_no_file_is_no_error(unpacked: Path) -> None:
    (unpacked / bytecode.NAME).unlink()
    bytecode.use(str(unpacked))
    assert not any(isinstance(finder, bytecode._Finder) for finder in sys.meta_path), "modules come from directories then"
