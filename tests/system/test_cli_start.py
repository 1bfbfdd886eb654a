"""What the command line loads: the budget of a start, counted in modules and not in milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, MAIN, Lab, lab

import archive
from bayplan import compilation, install

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Each costs 5 ms or more on the way to a container that itself takes 30 (what they cost: docs/decisions).
HEAVY = (
    "argparse subprocess pathlib dataclasses logging socket shutil tempfile asyncio ssl http.client tarfile zipfile inspect random"
    " threading concurrent.futures multiprocessing urllib.request email selectors difflib shlex traceback ipaddress ruamel pyroute2 signal"
).split()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("cli")) as found:
        found.ok("run", "-d", "--name", "web", IMAGE, "sleep", "1000")
        yield found


def loaded(host: Lab, *words: str) -> set[str]:
    """The modules that the command and all processes forked from it import."""
    line = [sys.executable, "-X", "importtime", "-I", "-S", str(MAIN), "--root", str(host.root), *words]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    return {row.rpartition("|")[2].strip() for row in done.stderr.splitlines() if row.startswith("import time:")}


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", IMAGE, "true"),
        ("run", "--rm", "-p", "18439:80", "-e", "A=1", "-v", "data:/data", "-m", "64m", IMAGE, "true"),
        ("exec", "web", "true"),
        ("ps",),
        ("inspect", "web"),
        ("logs", "web"),
        ("images",),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_loaded_on_the_way(host: Lab, words: tuple[str, ...]) -> None:
    modules = loaded(host, *words)
    assert "bayplan.cli.main" in modules, "the list is of what was imported"
    assert sorted(modules & set(HEAVY)) == [], "what costs more than all else together is not loaded"


def test_what_a_run_imports_comes_in_groups(host: Lab, tmp_path: Path) -> None:
    made = archive.build()
    install.install(made, archive.digest(made), str(tmp_path / "state"))
    launcher = tmp_path / "state" / "bin" / "bayplan"
    line = [sys.executable, "-I", "-S", "-X", "importtime", str(launcher), "--root", str(host.root), "run", "--rm", IMAGE, "true"]
    subprocess.run(line, capture_output=True, check=True)  # the first makes the filter
    told = [row.rpartition("|")[2].strip() for row in subprocess.run(line, capture_output=True, text=True, check=True).stderr.splitlines()]
    ours = [name for name in told if name.startswith("bayplan")]
    alone = ours[ours.index("bayplan.cli.run") :]
    assert alone == list(compilation.GROUPS), "only what begins a group is imported; complete the group for what is named beside"


def test_what_a_verb_does_not_need_is_not_loaded(host: Lab) -> None:
    modules = {name for name in loaded(host, "--version") if name.startswith("bayplan.")}
    assert not [name for name in modules if name.split(".")[1] in ("engine", "kernel", "store", "registry", "supervise", "plan")]
    listed = loaded(host, "ps")
    assert not [name for name in listed if name.startswith(("bayplan.kernel.sandbox", "bayplan.registry", "bayplan.engine.start"))]
