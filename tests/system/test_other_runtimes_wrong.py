"""What goes wrong with containers that another OCI runtime runs: what it cannot do, and what is left when something is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE
from runtime_lab import RUNTIMES, RuntimeLab, gone, is_alive, runtime_lab, sleepers, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module", params=RUNTIMES)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeLab]:
    with runtime_lab(tmp_path_factory.mktemp("cli"), request.param) as found:
        yield found


@pytest.fixture
def box(host: RuntimeLab) -> Iterator[str]:
    """The name of a container that may be made; it is removed afterwards."""
    yield "box"
    host.run("rm", "-f", "-v", "box")


def test_a_runtime_that_is_not_installed_is_an_error_before_anything_is_made(host: RuntimeLab) -> None:
    for name in ("no-such-runtime", "/nowhere/runc"):
        done = host.run("run", "--runtime", name, "-v", "never:/data", IMAGE, "true")
        assert done.returncode == 125 and f"looking for the runtime {name}" in done.stderr, "it is named"
    assert host.ids() == [] and "never" not in host.ok("volume", "ls", "-q"), "no container, no volume"


@pytest.mark.parametrize("name", ["../runc", "a b", "-x", "run\nc", "./runc"])
def test_what_is_no_name_of_a_runtime_is_refused(host: RuntimeLab, name: str) -> None:
    done = host.run("run", f"--runtime={name}", IMAGE, "true")
    assert done.returncode == 125 and "--runtime: " in done.stderr, "before it is looked for"


@pytest.mark.parametrize(
    "options",
    [("--init",), ("--userns", "private"), ("--systemd", "always"), ("-v", "/tmp:/data:rshared"),
     ("--mount", "type=volume,source=stock,target=/data,volume-subpath=a")],
)  # fmt: skip
def test_what_only_ours_can_do_is_refused(host: RuntimeLab, options: tuple[str, ...]) -> None:
    done = host.run("run", "--rm", *options, IMAGE, "true")
    assert done.returncode == 125 and f"cannot be had from the runtime {host.runtime}" in done.stderr, done.stderr
    assert host.ids() == [], "and nothing is made"


@pytest.mark.parametrize("verb", ["create", "start"])
def test_a_runtime_that_is_killed_leaves_nothing(host: RuntimeLab, tmp_path: Path, verb: str) -> None:
    """When it is halfway: its first process may be there already, in the cgroup or not yet."""
    program = host.runtime if host.runtime.startswith("/") else shutil.which(host.runtime)
    for delay in ("0.001", "0.01", "0.03", "0.1"):
        fatal = tmp_path / "fatal"
        killing = f'"{program}" "$@" & sleep {delay}; kill -9 $!; kill -9 $$'
        fatal.write_text(f'#!/bin/sh\ncase " $* " in *" {verb} "*) {killing};; esac\nexec "{program}" "$@"\n')
        fatal.chmod(0o755)
        done = host.run("run", "--rm", "--runtime", str(fatal), "-p", "127.0.0.1:0:80", IMAGE, "sleep", "1000")
        assert done.returncode == 125 and "was killed by signal 9" in done.stderr, done
        assert host.ids() == [] and gone(host), f"nothing is left where it is killed after {delay} s"
        assert not sleepers(), "no process of the container's either"


def test_what_a_crash_has_left_does_not_keep_it_from_starting(host: RuntimeLab, box: str) -> None:
    host.ok("run", "--name", box, IMAGE, "true")
    left = host.container(box) / "runtime" / host.container(box).name
    left.mkdir(parents=True)
    for name in ("state.json", "status", "record.json", "exec.fifo"):
        (left / name).write_text("{half of it")
    host.ok("start", box)
    assert host.ok("wait", box) == "0\n" and gone(host), "what a runtime was killed over is removed"


def test_one_whose_monitor_was_killed_can_be_removed_and_started_anew(host: RuntimeLab, box: str) -> None:
    for ending in (("stop", "-t", "0", box), ("rm", "-f", box)):
        host.run("start", box) if host.ids() else host.ok("run", "-d", "--name", box, IMAGE, "sleep", "1000")
        first = host.pid(box)
        os.kill(int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1]), 9)
        host.ok(*ending)
        assert until(lambda: not is_alive(first)) and gone(host), f"nothing runs on after {ending[0]}"  # noqa: B023


def test_a_builder_that_is_killed_takes_the_runtime_with_it(host: RuntimeLab, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\ncase " $* " in *" create "*) echo $$ $PPID >"$0.pids"; sleep 30;; esac\n')
    slow.chmod(0o755)
    caller = subprocess.Popen(host.command("run", "--rm", "--runtime", str(slow), IMAGE, "true"), stderr=subprocess.PIPE, text=True)
    pids = tmp_path / "slow.pids"
    assert until(lambda: pids.exists() and pids.read_text().endswith("\n")), "it is called"
    runtime, builder = map(int, pids.read_text().split())
    os.kill(builder, 9)
    assert "has been killed" in (caller.communicate(timeout=30)[1] or ""), "the caller says so"
    assert until(lambda: not is_alive(runtime)), "the runtime has died with it"
    assert host.ids() == [], "and so is the container"


def test_a_runtime_without_namespaces_of_its_own_is_refused(host: RuntimeLab, tmp_path: Path) -> None:
    """Such as one of virtual machines: what is connected, or executed, would be so on the host."""
    fake = tmp_path / "fake"
    script = 'while [ "$1" != create ]; do [ $# -gt 0 ] || exit 0; shift; done\nwhile [ "$1" != --pid-file ]; do shift; done\n'
    fake.write_text(f'#!/bin/sh\n{script}sleep 600 >/dev/null 2>&1 &\nprintf %s $! >"$2"\n')
    fake.chmod(0o755)
    done = host.run("run", "--rm", "--runtime", str(fake), IMAGE, "true")
    assert done.returncode == 125 and "namespace of its own; use another runtime" in done.stderr, done
    assert host.ids() == [], "and nothing is left"


def test_another_runtime_is_another_container(host: RuntimeLab, tmp_path: Path) -> None:
    compose = tmp_path / "compose.yaml"
    document = f"services:\n  web:\n    image: {IMAGE}\n    command: [sleep, '1000']\n    stop_signal: SIGKILL\n"
    compose.write_text(document)
    host.ok("apply", "--project-name", "lab", str(compose))
    before = host.ids()
    compose.write_text(f"{document}    runtime: {host.runtime}\n")
    try:
        assert "runtime" in host.ok("apply", "--project-name", "lab", str(compose)), "the reason is said"
        assert len(host.ids()) == 1 and host.ids() != before, "it was replaced"
        name = host.ok("ps", "--format", "{{.Names}}").strip()
        assert host.ok("inspect", "--format", "{{.HostConfig.Runtime}}", name).strip() == host.runtime, "and says by what it is run"
        again = host.ok("apply", "--project-name", "lab", str(compose))
        assert len(host.ids()) == 1 and "replace" not in again, "a second time nothing is done"
    finally:
        for each in host.ids():
            host.run("rm", "-f", each)


def test_nothing_of_other_runtimes_is_loaded_for_ours(host: RuntimeLab) -> None:
    interpreter, *rest = host.command("run", "--rm", "--runtime", "bayplan", IMAGE, "true")[len(host.before) :]
    line = [*host.before, interpreter, "-X", "importtime", *rest]
    done = subprocess.run(line, capture_output=True, text=True)
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    ours = {"bayplan.engine.runtimes", "bayplan.engine.runtime_calls", "bayplan.plan.portable", "bayplan.kernel.seccomp_words"}
    assert done.returncode == 0 and not loaded & ours, "a start is as quick as before"
