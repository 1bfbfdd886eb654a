"""Hooks of all six moments: when they run, where, what they are told, and what is left when one fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci_lab
import pytest
from oci_lab import Lab, alive

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/busybox").exists(), reason="needs root and busybox-static")
MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
SCRIPT = """\
#!/bin/sh
state=$(cat)
echo "$1 $(readlink /proc/self/ns/net) $NAME $state" >> "$0.log"
[ "$FAIL" != "$1" ] || { echo "reason of $1" >&2; exit 3; }
[ "$HANG" != "$1" ] || exec sleep 1000
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with oci_lab.lab(tmp_path) as found:
        for place in (tmp_path, tmp_path / "rootfs"):  # startContainer's is a path of the container's
            (place / "hook").write_text(SCRIPT)
            (place / "hook").chmod(0o755)
        yield found


def hooks(lab: Lab, **variables: str) -> dict[str, Any]:
    env = ["PATH=/bin:/usr/bin", *(f"{name}={value}" for name, value in {"NAME": "own", **variables}.items())]
    path = {moment: "/hook" if moment == "startContainer" else str(lab.directory / "hook") for moment in MOMENTS}
    return {"hooks": {moment: [{"path": path[moment], "args": ["hook", moment], "env": env, "timeout": 1}] for moment in MOMENTS}}


def told(lab: Lab) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Moment, network namespace, a variable of its own, and the state, of every hook that ran."""
    found = []
    for place in (lab.directory, lab.directory / "rootfs"):
        log = place / "hook.log"
        for line in log.read_text().splitlines() if log.exists() else ():
            moment, namespace, name, state = line.split(" ", 3)
            found.append((moment, namespace, name, json.loads(state)))
    return sorted(found, key=lambda each: MOMENTS.index(each[0]))


def test_hooks_run_in_order_each_with_the_state(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000", change={**hooks(lab), "annotations": {"a": "b"}}))
    created = told(lab)
    assert [moment for moment, *_ in created] == list(MOMENTS[:3]), "those before the start"
    lab.ok("start", "c1")
    pid = lab.state("c1")["pid"]
    own, inside = os.readlink("/proc/self/ns/net"), os.readlink(f"/proc/{pid}/ns/net")
    lab.ok("kill", "c1", "KILL")
    lab.wait("c1", "stopped")
    assert [moment for moment, *_ in told(lab)] == list(MOMENTS[:5]), "those at the start"
    lab.ok("delete", "c1")
    everything = told(lab)
    assert [moment for moment, *_ in everything] == list(MOMENTS), "and one after the end"
    places = {moment: namespace for moment, namespace, *_ in everything}
    assert [places[moment] for moment in MOMENTS] == [own, own, inside, inside, own, own], "each in its namespaces"
    states = {moment: state for moment, _, _, state in everything}
    assert [states[moment]["status"] for moment in MOMENTS] == ["creating"] * 3 + ["created", "running", "stopped"], "told how far it is"
    assert states["createRuntime"]["pid"] == states["poststart"]["pid"] == pid, "and of which process"
    assert all((state["id"], state["annotations"]) == ("c1", {"a": "b"}) for state in states.values()), "of which container"
    assert {name for _, _, name, _ in everything} == {"own"}, "with an environment of its own"


@pytest.mark.parametrize("moment", MOMENTS[:3])
def test_a_hook_that_fails_before_the_start_undoes_the_container(lab: Lab, moment: str) -> None:
    done = lab.run("create", "--bundle", str(lab.bundle("true", change=hooks(lab, FAIL=moment))), "c1")
    assert done.returncode == 1 and f"{moment}[0]" in done.stderr and f"reason of {moment}" in done.stderr, f"which, and why: {done}"
    assert lab.ok("list", "-q") == "", "nothing is left"
    ran = [each for each, *_ in told(lab)]
    assert ran == [*MOMENTS[: MOMENTS.index(moment) + 1], "poststop"], "none runs after it but those that undo (runtime.md, Lifecycle)"


def test_a_hook_that_takes_too_long_is_killed(lab: Lab) -> None:
    done = lab.run("run", "--bundle", str(lab.bundle("true", change=hooks(lab, HANG="createRuntime"))), "c1")
    assert done.returncode == 1 and "within 1 s" in done.stderr and lab.ok("list", "-q") == "", f"with its timeout: {done}"


def test_start_container_hooks_that_fail_end_it(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000", change=hooks(lab, FAIL="startContainer")))
    done = lab.run("start", "c1")
    assert done.returncode == 1 and "startContainer[0]" in done.stderr, f"start says so: {done}"
    lab.wait("c1", "stopped")
    lab.ok("delete", "c1")
    assert [each for each, *_ in told(lab)] == [*MOMENTS[:4], "poststop"], "poststart has not run"


def test_poststart_hooks_that_fail_stop_it(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000", change=hooks(lab, FAIL="poststart")))
    pid = lab.state("c1")["pid"]
    done = lab.run("start", "c1")
    assert done.returncode == 1 and "poststart[0]" in done.stderr, f"start says so: {done}"
    lab.wait("c1", "stopped")
    assert not alive(pid), "and its process has ended"


def test_poststop_hooks_that_fail_are_warned_of_and_the_others_run(lab: Lab) -> None:
    change = hooks(lab, FAIL="poststop")
    change["hooks"]["poststop"] *= 2
    lab.create("c1", lab.bundle("true", change=change))
    done = lab.run("delete", "--force", "c1")
    assert done.returncode == 0 and done.stderr.count("warning: running the hook poststop") == 2, f"both are said: {done}"
    assert lab.ok("list", "-q") == "", "and it is gone"


def test_a_hook_that_is_not_there_is_said(lab: Lab) -> None:
    change = {"hooks": {"createRuntime": [{"path": "/nonexistent/hook"}]}}
    done = lab.run("run", "--bundle", str(lab.bundle("true", change=change)), "c1")
    assert done.returncode == 1 and "/nonexistent/hook" in done.stderr and lab.ok("list", "-q") == "", f"by its path: {done}"
