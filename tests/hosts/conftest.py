"""A registry and disposable hosts for a session of tests, and playbooks run against them over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import disposable
import images
import pytest

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 900  # seconds; a loaded machine is slow, and only what hangs should fail


class Run(NamedTuple):
    """What ansible-playbook said: its exit status, its output, and each task's result."""

    status: int
    output: str
    results: list[dict[str, Any]]

    @property
    def changed(self) -> bool:
        return any(result.get("changed") for result in self.results)

    @property
    def last(self) -> dict[str, Any]:
        return self.results[-1]

    @property
    def steps(self) -> list[tuple[str, str, str]]:
        return [step for steps in self.steps_by_task for step in steps]

    @property
    def steps_by_task(self) -> list[list[tuple[str, str, str]]]:
        return [
            [(step["action"], step["kind"], step["name"]) for each in result.get("results") or [result] for step in each.get("steps", [])]
            for result in self.results
        ]


class Lab(NamedTuple):
    """One registry, reachable from every host at `registry`; a directory for what a test writes."""

    directory: Path
    registry: str
    python: str = sys.executable

    def play(
        self, host: disposable.Host, *tasks: dict[str, Any], check: bool = False, fail: bool = False, verbose: bool = False, **settings: Any
    ) -> Run:
        """Run tasks on a host; `settings` go into the play. Without `fail`, a task that fails is the test's failure."""
        play = {"hosts": "all", "gather_facts": False, "tasks": list(tasks), **settings}
        path = Path(tempfile.mkstemp(suffix=".yml", dir=self.directory)[1])
        path.write_text(json.dumps([play]))
        return self.playbook(path, host, *(["-vvvv"] if verbose else []), check=check, fail=fail)

    def playbook(self, path: Path, host: disposable.Host, *options: str, check: bool = False, fail: bool = False) -> Run:
        inventory = self.directory / f"{host.address}.json"
        inventory.write_text(host.inventory(registry=self.registry))
        results = Path(tempfile.mkstemp(suffix=".results", dir=self.directory)[1])
        command = [str(Path(self.python).parent / "ansible-playbook"), "-i", str(inventory), str(path), "--diff", *options]
        done = subprocess.run(
            [*command, "--check"] if check else command,
            cwd=self.directory,
            env=self.environment() | {"RESULTS": str(results)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        run = Run(done.returncode, done.stdout, [json.loads(line) for line in results.read_text().splitlines()])
        assert fail == bool(run.status), run.output
        return run

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(self.python).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ANSIBLE_HOME": str(self.directory / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.directory / "cp"),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_TIMEOUT": "120",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_CALLBACK_PLUGINS": str(PROJECT / "tests" / "hosts" / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
        }


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bp-hosts-"))  # short: sockets lie below it
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def new_host(scratch: Path) -> Iterator[Callable[[], disposable.Host]]:
    """Makes one more disposable host; all end with the session."""
    if os.geteuid() != 0:
        pytest.skip("a disposable host takes root, for its namespaces")
    made: list[tuple[Path, socket.socket]] = []

    def make() -> disposable.Host:
        directory = scratch / f"h{len(made)}"
        number, claim = disposable.claim_number()
        made.append((directory, claim))
        return disposable.up(directory, number=number)

    yield make
    for directory, claim in made:
        with contextlib.suppress(RuntimeError):
            disposable.down(directory)
        claim.close()


@pytest.fixture(scope="session")
def lab(scratch: Path) -> Iterator[Lab]:
    """The registry listens on every address of this machine, so that each host reaches it at its own gateway."""
    directory = scratch / "registry"
    port = start_registry(directory)
    try:
        images.push_demo_images(f"127.0.0.1:{port}")
        yield Lab(scratch, f"{{{{ gateway }}}}:{port}")
    finally:
        images.stop_registry(directory)


def start_registry(directory: Path) -> int:
    """Start one on a port that is free; below those that the kernel gives to clients, and somebody else may be as quick."""
    for _ in range(5):
        port = random.randrange(15000, 30000)
        with contextlib.suppress(RuntimeError):
            images.start_registry(directory, f"0.0.0.0:{port}")
            return port
    raise RuntimeError(f"the registry does not start: {(directory / 'registry.log').read_text()}")


@pytest.fixture(scope="module")
def host(new_host: Callable[[], disposable.Host]) -> disposable.Host:
    """A host that is empty when a module of tests begins."""
    return new_host()
