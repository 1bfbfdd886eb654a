"""Imports point one way, and what is pure imports nothing of the world."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "runtime" / "bayplan"
MODULES = sorted(path for path in RUNTIME.rglob("*.py") if "_vendor" not in path.parts)

BELOW = {
    "errors": set(),
    "version": set(),
    "model": {"errors"},
    "plan": {"errors", "model"},
    "build": {"errors", "model"},
    "kernel": {"errors", "model"},
    "store": {"errors", "model"},
    "registry": {"errors", "model"},
    "supervise": {"errors", "model", "plan", "kernel", "store", "registry"},
    "engine": {"errors", "model", "plan", "build", "kernel", "store", "registry", "supervise", "install"},
    "contexts": {"errors", "model", "build"},
    "documents": {"errors", "model"},
    "oci": {"errors", "model", "kernel", "cli"},
    "bytecode": set(),
    "compilation": {"bytecode", "model"},
    "install": {"errors", "model", "store", "bytecode"},
    "dispatch": {"errors", "model", "engine"},
}
DOORS = set(BELOW) | {"cli", "verbs", "task", "controller"}
IMPURE = {"os", "socket", "_socket", "ctypes", "subprocess", "time", "random", "shutil", "tempfile", "pathlib"}
HEAVY = {"argparse", "subprocess", "pathlib", "dataclasses", "logging", "shutil", "tempfile", "asyncio", "ssl", "http", "tarfile", "socket",
         "hashlib", "ipaddress", "urllib", "concurrent", "multiprocessing", "inspect", "threading", "signal"}  # fmt: skip


def imported(path: Path, *, top_only: bool = False) -> set[str]:
    """Dotted names of the modules that a file imports; with `top_only` not those inside functions or for type checking."""
    tree = ast.parse(path.read_text())
    nodes = list(tree.body) if top_only else list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(path: Path) -> str:
    return path.relative_to(RUNTIME).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_a_module_imports_only_what_is_below_it(path: Path) -> None:
    mine = part(path)
    allowed = BELOW.get(mine, DOORS) | {mine}
    used = {name.split(".")[1] for name in imported(path) if name.startswith("bayplan.")} - {"_vendor"}
    assert used <= allowed, f"{mine} stands below {', '.join(sorted(used - allowed))}"


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) in ("model", "plan", "build")], ids=lambda path: path.stem)
def test_what_is_pure_imports_nothing_of_the_world(path: Path) -> None:
    used = {name.split(".")[0] for name in imported(path)}
    assert not used & IMPURE, "a value or a decision does not look at the world"


def test_no_file_is_longer_than_500_lines() -> None:
    long = {str(path.relative_to(RUNTIME)): len(path.read_text().splitlines()) for path in MODULES if "table" not in path.stem}
    assert not {name: lines for name, lines in long.items() if lines > 500}, "a file has one subject"


def test_foreign_code_is_called_from_one_file_of_kernel_and_from_store() -> None:
    foreign = {"ctypes", "_ctypes"}
    users = {path.relative_to(RUNTIME).as_posix() for path in MODULES if foreign & {n.split(".")[0] for n in imported(path)}}
    assert {name for name in users if name.startswith("kernel/")} == {"kernel/foreign.py"}, "what linux.py calls libc with"
    assert all(name.startswith(("kernel/", "store/")) for name in users), "foreign code is called from kernel/ and store/ only"
