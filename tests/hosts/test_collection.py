"""The Galaxy tarball, used from an environment that has nothing else of ours, and Ansible's own checks of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROJECT, Lab
from disposable import Host

GET_PIP = "import ensurepip\nensurepip.bootstrap(default_pip=True)\n"


@pytest.fixture(scope="module")
def tarball(scratch: Path) -> Path:
    build = [sys.executable, str(PROJECT / "runtime" / "collection.py"), "build", str(scratch / "dist")]
    return Path(subprocess.run(build, check=True, capture_output=True, text=True).stdout.strip())


@pytest.fixture(scope="module")
def elsewhere(lab: Lab, tarball: Path) -> Lab:
    """An environment with ansible-core and the tarball, without bayplan."""
    place = lab.directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    have = subprocess.run([sys.executable, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    ansible = next(line for line in have.splitlines() if line.startswith("ansible-core=="))
    subprocess.run([str(place / "bin" / "pip"), "install", "-q", ansible], check=True)
    install = [str(place / "bin" / "ansible-galaxy"), "collection", "install", str(tarball), "--offline"]
    other = lab._replace(directory=lab.directory / "other", python=str(place / "bin" / "python"))
    other.directory.mkdir()
    subprocess.run(install, check=True, capture_output=True, env=other.environment())
    return other


def test_the_tarball_works_in_an_environment_without_bayplan(elsewhere: Lab, new_host: Callable[[], Host]) -> None:
    host = new_host()
    imported = subprocess.run([elsewhere.python, "-c", "import bayplan"], capture_output=True)
    assert imported.returncode != 0, "bayplan is not installed there"
    elsewhere.playbook(PROJECT / "playbooks" / "demo.yml", host)
    assert not elsewhere.playbook(PROJECT / "playbooks" / "demo.yml", host).changed, "a second run changes nothing"
    (elsewhere.directory / "compose.yaml").write_text(
        f"services: {{one: {{image: '{host.gateway}:{elsewhere.registry.split(':')[-1]}/web:1'}}}}\n"
    )
    stack = {"name": "stack", "bayplan.containers.stack": {"files": ["compose.yaml"], "project_name": "files"}}
    elsewhere.play(host, stack)
    assert "files-one-1" in host.ssh("bayplan ps").stdout, "a Compose file is read with what the archive brings along"
    assert not elsewhere.play(host, stack).changed, "a second run changes nothing"


def test_the_documentation_of_every_module_is_shown(elsewhere: Lab) -> None:
    names = [path.stem for path in (PROJECT / "collection" / "plugins" / "modules").glob("*.py")]
    command = [str(Path(elsewhere.python).parent / "ansible-doc"), *(f"bayplan.containers.{name}" for name in names)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=elsewhere.environment()).stdout
    assert all(f"bayplan.containers.{name}" in shown for name in names), "ansible-doc knows each module"


def test_ansibles_own_checks_accept_the_collection(scratch: Path) -> None:
    """On a staged copy outside the checkout: in a directory that git ignores they look at nothing, and succeed."""
    subprocess.run([sys.executable, str(PROJECT / "runtime" / "collection.py"), "stage", str(scratch / "sane")], check=True)
    home = scratch / "sane" / "home"
    (home / ".ansible/test/cache").mkdir(parents=True)
    for name in ("get_pip_24_2.py", "get_pip_25_0_1.py"):  # it would fetch this from a server
        (home / ".ansible/test/cache" / name).write_text(GET_PIP)
    command = [str(Path(sys.executable).parent / "ansible-test"), "sanity", "--python", f"3.{sys.version_info[1]}", "--exclude", "files/"]
    collection = scratch / "sane" / "ansible_collections" / "bayplan" / "containers"
    environment = {**os.environ, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=collection, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "validate-modules" in done.stdout and "All targets skipped" not in done.stdout, "it looked at something"
