"""What a short command and a converge load: start-up is most of what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
HEAVY = {"argparse", "asyncio", "concurrent", "dataclasses", "hashlib", "http", "inspect", "ipaddress", "logging", "multiprocessing",
         "pathlib", "shutil", "socket", "ssl", "subprocess", "tarfile", "tempfile", "threading", "urllib", "zipfile"}  # fmt: skip
LESS_HEAVY = {"collections", "functools"}

COMMAND = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from bayplan.cli.main import main
main(sys.argv[1:])
"""
CONVERGE = """
import sys
sys.path.insert(0, sys.argv[1])
from bayplan.task import run_task
want = {
    "services": {"web": {"image": "example.com/web:1", "networks": {"shop": {"ipv4_address": "10.77.0.9"}}}},
    "networks": {"shop": {"ipam": {"config": [{"subnet": "10.77.0.0/24", "gateway": "10.77.0.1", "ip_range": "10.77.0.128/25"}]}}},
    "x-bayplan": {},
}
result = run_task({"verb": "converge", "want": want, "check": True, "root": sys.argv[2]})
assert result["changed"], result
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looking at a state takes root")


def loaded(code: str, *arguments: str) -> set[str]:
    """The packages that a child imports, as the interpreter itself tells it: a command ends without coming back."""
    command = [sys.executable, "-I", "-S", "-X", "importtime", "-c", code, str(RUNTIME), *arguments]
    told = subprocess.run(command, capture_output=True, text=True, cwd="/").stderr
    assert "Traceback" not in told, told
    return {line.rpartition("|")[2].strip().split(".")[0] for line in told.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("verb", [["ps"], ["images"], ["version"], ["network", "ls"], ["inspect", "nothing"]], ids=" ".join)
def test_a_command_that_looks_loads_nothing_heavy(tmp_path: Path, verb: list[str]) -> None:
    found = loaded(COMMAND, "--root", str(tmp_path / "state"), *verb)
    paid = found & (HEAVY | LESS_HEAVY)
    assert "bayplan" in found and not paid, f"`bayplan {' '.join(verb)}` pays for {', '.join(sorted(paid))}"


def test_a_converge_with_a_declared_network_loads_nothing_heavy(tmp_path: Path) -> None:
    found = loaded(CONVERGE, str(tmp_path / "state"))
    assert "bayplan" in found and not found & HEAVY, f"a converge pays for {', '.join(sorted(found & HEAVY))}"
