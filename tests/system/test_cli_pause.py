"""Pausing containers by the command line: nothing of them moves, everything else about them works as with Docker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, lab

from bayplan.kernel import cgroups, freezer
from bayplan.kernel.cgroups import observe_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
COUNT = "i=0; trap 'exit 7' TERM; trap 'exit 9' USR1; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.02; done"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    host = observe_host()
    if host.version == 1 and "freezer" not in dict(host.mounts):
        pytest.skip("this host has no freezer controller")
    with lab(tmp_path_factory.mktemp("cli")) as found:
        yield found


@pytest.fixture
def paused(host: Lab) -> Iterator[Lab]:
    host.ok("run", "-d", "--name", "one", IMAGE, "sh", "-c", COUNT)
    assert host.ok("pause", "one") == "one\n"
    yield host
    for container in host.ids():
        host.run("rm", "-f", "-v", container)


def count(host: Lab) -> str:
    pid = host.ok("inspect", "--format", "{{.State.Pid}}", "one").strip()
    return Path(f"/proc/{pid}/root/tmp/count").read_text()


def own(host: Lab) -> cgroups.Cgroup:
    path = host.ok("inspect", "--format", "{{.HostConfig.CgroupPath}}", "one").strip()
    found = cgroups.find(observe_host(), path)
    assert found, "it has a cgroup"
    return found


def test_a_paused_container_stands_still_and_goes_on(paused: Lab) -> None:
    before = count(paused)
    time.sleep(0.3)
    assert count(paused) == before and freezer.is_frozen(own(paused)), "none of its processes runs"
    assert paused.ok("unpause", "one") == "one\n"
    deadline = time.monotonic() + 10
    while count(paused) == before:
        assert time.monotonic() < deadline, "it goes on where it was"
        time.sleep(0.02)
    assert paused.status("one") == "running"


def test_lists_and_inspect_say_that_it_is_paused(paused: Lab) -> None:
    assert paused.ok("ps", "--format", "{{.Names}} {{.State}} {{.Status}}").endswith("(Paused)\n"), "in the list of what runs"
    assert paused.ok("ps", "-q", "--filter", "status=paused") and not paused.ok("ps", "-q", "--filter", "status=running")
    assert paused.ok("inspect", "--format", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}", "one") == "paused true true\n"
    assert paused.ok("info", "--format", "{{.ContainersPaused}} {{.ContainersRunning}}") == "1 0\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["pause", "one"], "it is paused, and only a running one can be paused"),
        (["exec", "one", "true"], "it is paused; unpause it first"),
        (["attach", "one"], "it is paused; unpause it first"),
        (["start", "one"], "it is paused; unpause it"),
        (["rm", "one"], "it is paused; stop it first, or force"),
    ],
)
def test_what_a_paused_container_cannot_do_is_refused(paused: Lab, command: list[str], message: str) -> None:
    done = paused.run(*command)
    assert done.returncode and message in done.stderr, "instead of waiting for it"
    assert paused.status("one") == "paused", "it stays as it is"


def test_stop_takes_it_out_of_its_pause_with_its_stop_signal(paused: Lab) -> None:
    paused.ok("stop", "one")
    assert paused.ok("inspect", "--format", "{{.State.ExitCode}} {{.State.Paused}}", "one") == "7 false\n", "it ended by its own doing"
    paused.ok("start", "one")
    assert paused.status("one") == "running", "the next run is not paused"
    paused.ok("pause", "one")
    assert freezer.is_frozen(own(paused)), "and can be paused like the first"


def test_kill_restart_and_forced_removal_work_on_it(paused: Lab) -> None:
    assert paused.ok("kill", "-s", "USR1", "one") == "one\n" and paused.status("one") == "paused", "another signal waits with it"
    paused.ok("unpause", "one")
    paused.wait("one", "exited")
    paused.ok("start", "one")
    paused.ok("pause", "one")
    paused.ok("restart", "-t", "5", "one")
    assert paused.status("one") == "running", "restarted, and not paused"
    paused.ok("pause", "one")
    paused.ok("kill", "one")
    paused.wait("one", "exited")
    paused.ok("start", "one")
    paused.ok("pause", "one")
    paused.ok("rm", "-f", "one")
    assert paused.ids() == [], "gone"


def test_its_health_check_rests(host: Lab) -> None:
    check = ["--health-cmd", "true", "--health-interval", "100ms", "--health-retries", "1"]
    host.ok("run", "-d", "--name", "one", *check, IMAGE, "sleep", "60")
    try:
        deadline = time.monotonic() + 10
        while "healthy" not in host.ok("ps", "--format", "{{.Status}}"):
            assert time.monotonic() < deadline, "the check works"
        host.ok("pause", "one")
        time.sleep(1)
        log = host.ok("inspect", "--format", "{{json .State.Health.Log}}", "one")
        time.sleep(0.5)
        assert host.ok("inspect", "--format", "{{json .State.Health.Log}}", "one") == log, "no probe is made that would stand still"
        host.ok("unpause", "one")
        time.sleep(0.5)
        assert host.ok("inspect", "--format", "{{.State.Health.Status}}", "one") == "healthy\n", "and it goes on"
    finally:
        host.run("rm", "-f", "one")


def test_only_what_runs_can_be_paused_and_only_what_is_paused_unpaused(host: Lab) -> None:
    host.ok("create", "--name", "one", IMAGE)
    try:
        assert "it is created, and only a running one can be paused" in host.run("pause", "one").stderr
        assert "it is not paused" in host.run("unpause", "one").stderr
        assert host.run("pause", "nobody").returncode == 1
    finally:
        host.ok("rm", "one")
