"""What is pushed and copied here, Docker and Podman pull, load and run; and the other way round."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import MAIN, lab
from test_oci_engines import IMAGE, Engine, engine  # noqa: F401  (a fixture)

REGISTRY = "127.0.0.1:5000"


class Both:
    """bayplan and another engine beside it, with one registry between them, in the engine's network namespace."""

    def __init__(self, engine: Engine, directory: Path) -> None:  # noqa: F811
        self.engine = engine
        self.directory = directory
        self.root = directory / "state"
        config = directory / "registry.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage:\n  filesystem: {{rootdirectory: {directory}/r}}\nhttp:\n  addr: {REGISTRY}\n  secret: x\n"
        )
        command = self.within("docker-registry", "serve", str(config))
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def within(self, *words: str) -> list[str]:
        return ["nsenter", "-t", self.engine.first, "-n", *words]

    def ok(self, *words: str) -> str:
        """bayplan, in the registry's network."""
        command = self.within(sys.executable, "-I", "-S", str(MAIN), "--root", str(self.root), *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"bayplan {' '.join(words)}: {done.stderr}"
        return done.stdout

    def theirs(self, *words: str) -> str:
        insecure = ("--tls-verify=false",) if self.engine.name == "podman" and words[0] in ("pull", "push") else ()
        return self.engine.ok(words[0], *insecure, *words[1:])


@pytest.fixture
def both(engine: Engine, tmp_path: Path) -> Iterator[Both]:  # noqa: F811
    with lab(tmp_path):
        found = Both(engine, tmp_path)
        try:
            yield found
        finally:
            found.server.kill()
            found.server.wait()


@pytest.mark.parametrize("format", ["docker", "oci"])
def test_they_pull_and_run_what_is_pushed_here(both: Both, format: str) -> None:
    name = f"{REGISTRY}/ours/box:{format}"
    both.ok("tag", "box:1", name)
    both.ok("push", "--format", format, name)
    both.theirs("pull", name)
    assert both.theirs("run", "--rm", "--network", "none", name, "/bin/echo", "from there") == "from there\n"


def test_what_they_push_is_pulled_and_run_here_and_goes_on_as_it_is(both: Both) -> None:
    name = f"{REGISTRY}/theirs/box:1"
    both.theirs("tag", IMAGE, name)
    both.theirs("push", name)
    both.ok("pull", name)
    assert both.ok("run", "--rm", "--network", "none", name, "/bin/echo", "from here") == "from here\n"
    digest = both.ok("copy", "-q", f"docker://{name}", f"docker://{REGISTRY}/copied/box:1")
    both.ok("tag", name, f"{REGISTRY}/pushed/box:1")
    assert digest.strip() in both.ok("push", f"{REGISTRY}/pushed/box:1"), "one digest on all ways"
    both.theirs("pull", f"{REGISTRY}/pushed/box:1")


def test_archives_go_both_ways(both: Both) -> None:
    ours, theirs = both.directory / "ours.tar", both.directory / "theirs.tar"
    both.ok("copy", "store:box:1", f"docker-archive:{ours}:ours/box:1")
    both.theirs("load", "-i", str(ours))
    name = "ours/box:1" if both.engine.name == "docker" else "docker.io/ours/box:1"
    assert both.theirs("run", "--rm", "--network", "none", name, "/bin/echo", "loaded") == "loaded\n"
    both.theirs("save", "-o", str(theirs), IMAGE)
    both.ok("copy", f"docker-archive:{theirs}", "store:theirs/box:1")
    assert both.ok("run", "--rm", "--network", "none", "theirs/box:1", "/bin/echo", "loaded") == "loaded\n"
    both.ok("copy", f"docker-archive:{theirs}", f"docker://{REGISTRY}/saved/box:1")
    both.theirs("pull", f"{REGISTRY}/saved/box:1")


def test_they_choose_from_an_index_that_was_made_here(both: Both) -> None:
    both.ok("tag", "box:1", f"{REGISTRY}/multi/box:amd64")
    both.ok("push", f"{REGISTRY}/multi/box:amd64")
    both.ok("manifest", "create", f"{REGISTRY}/multi/box:1", "box:1")
    both.ok("manifest", "push", "--purge", f"{REGISTRY}/multi/box:1")
    both.theirs("pull", f"{REGISTRY}/multi/box:1")
    assert both.theirs("run", "--rm", "--network", "none", f"{REGISTRY}/multi/box:1", "/bin/echo", "chosen") == "chosen\n"
