"""Whose namespaces a container has: its own, the host's, another container's; and an exec that is left running."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, Typist, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
OPTIONS = {"pid": "--pid", "ipc": "--ipc", "uts": "--uts", "net": "--network", "cgroup": "--cgroupns"}
SHOW = "ls -l /proc/self/ns"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("cli")) as found:
        found.ok("run", "-d", "--name", "other", IMAGE, "sleep", "1000")
        try:
            yield found
        finally:
            found.run("rm", "-f", "other")


def of(pid: str) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


def inside(host: Lab, *options: str) -> dict[str, str]:
    output = host.ok("run", "--rm", *options, IMAGE, "sh", "-c", SHOW)
    found = dict(re.findall(r" (\w+) -> (\S+)", output))
    return {kind: found[kind] for kind in KINDS}


def other(host: Lab) -> dict[str, str]:
    return of(host.ok("inspect", "--format", "{{.State.Pid}}", "other").strip())


def test_a_container_has_all_its_namespaces_for_itself(host: Lab) -> None:
    own = inside(host)
    for name, theirs in (("the host", of("self")), ("another container", other(host))):
        assert not set(own.values()) & set(theirs.values()), f"none is that of {name}"


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_namespace_of_the_hosts_is_shared_alone(host: Lab, kind: str) -> None:
    own, theirs = inside(host, OPTIONS[kind], "host"), of("self")
    assert [each for each in KINDS if own[each] == theirs[each]] == [kind], "that one, and no other"


@pytest.mark.parametrize("kind", ["pid", "ipc", "net", "uts"])
def test_a_namespace_of_another_container_is_shared_alone(host: Lab, kind: str) -> None:
    own, theirs = inside(host, OPTIONS[kind], "container:other"), other(host)
    assert [each for each in KINDS if own[each] == theirs[each]] == [kind], "that one, and no other"


def test_a_cgroup_namespace_of_another_container_is_refused(host: Lab) -> None:
    done = host.run("run", "--rm", "--cgroupns", "container:other", IMAGE, "true")
    assert done.returncode == 125 and "one of host, private was expected" in done.stderr, "the words that there are"


def test_a_shared_host_name_is_the_other_containers_and_cannot_be_given(host: Lab) -> None:
    name = host.ok("exec", "other", "hostname")
    assert host.ok("run", "--rm", "--uts", "container:other", IMAGE, "hostname") == name, "it is seen"
    for option in (("--hostname", "mine"), ("--domainname", "mine.test")):
        done = host.run("run", "--rm", "--uts", "container:other", *option, IMAGE, "true")
        assert done.returncode == 125 and "cannot be set with uts: container:other" in done.stderr, "it belongs to the other one"
    done = host.run("run", "--rm", "--uts", "container:nobody", IMAGE, "true")
    assert done.returncode == 125 and "nobody" in done.stderr, "one that is not there is named"


def test_a_container_beside_another_sees_its_processes_and_can_signal_them(host: Lab) -> None:
    assert "sleep 1000" in host.ok("run", "--rm", "--pid", "container:other", IMAGE, "ps"), "in its procfs"
    host.ok("run", "-d", "--name", "target", IMAGE, "sh", "-c", "trap 'exit 5' USR1; while :; do sleep 0.05; done")
    host.ok("run", "--rm", "--pid", "container:target", IMAGE, "kill", "-USR1", "1")
    assert host.ok("wait", "target") == "5\n", "as a debugger beside it would"
    host.ok("rm", "target")


def test_nobody_starts_beside_who_may_trace_it(host: Lab) -> None:
    host.ok("run", "-d", "--name", "tracer", "--cap-add", "SYS_PTRACE", "--pid", "container:other", IMAGE, "sleep", "1000")
    for place in ("other", "tracer"):
        done = host.run("run", "--rm", "--pid", f"container:{place}", IMAGE, "true")
        assert done.returncode == 125 and "may trace others (CAP_SYS_PTRACE)" in done.stderr, "it could write to the host's interpreter"
    host.ok("rm", "-f", "tracer")
    host.ok("run", "--rm", "--pid", "container:other", IMAGE, "true")


def test_an_exec_can_be_left_with_its_keys_and_runs_on(host: Lab) -> None:
    for options, keys in ((("--detach-keys", "ctrl-x,y"), b"\x18y"), ((), b"\x10\x11")):
        typist = Typist(host.command("exec", "-it", *options, "other", "sh", "-c", "echo ready; read line; sleep 600"))
        typist.expect(b"ready")
        typist.type(b"go\r")
        typist.type(keys)
        assert typist.end() == 0, "leaving it is no failure"
        time.sleep(0.2)
        left = [row for row in host.ok("top", "other", "-o", "pid,args").splitlines() if row.endswith("sleep 600")]
        assert left, "what runs in the terminal is not hung up on"
        for row in left:
            os.kill(int(row.split()[0]), 9)


@pytest.mark.parametrize("options", [("-t", "--detach-keys", "ctrl-"), ("--attach", "nothing")])
def test_wrong_options_about_streams_are_refused_before_anything_runs(host: Lab, options: tuple[str, ...]) -> None:
    done = host.run("run", "--name", "never", *options, IMAGE, "sleep", "1000")
    assert done.returncode == 125 and done.stderr.count("\n") == 1, "said at once"
    assert host.run("inspect", "never").returncode == 1, "nothing was made"


def test_exec_takes_its_options_into_account(host: Lab) -> None:
    script = "id -u; id -g; echo $A; pwd; stty -a >/dev/null 2>&1 && echo terminal; cat /proc/self/status"
    plain = host.ok("exec", "--user", "7:8", "--env", "A=b", "--workdir", "/tmp", "other", "sh", "-c", script).splitlines()
    assert plain[:4] == ["7", "8", "b", "/tmp"], "user, group, variable, directory"
    privileged = host.ok("exec", "--privileged", "-t", "other", "sh", "-c", script)
    assert "terminal" in privileged, "a terminal of its own"
    bounding = {name: int(value, 16) for name, value in re.findall(r"(CapBnd|CapEff):\s(\w+)", privileged)}
    own = int(re.findall(r"CapBnd:\s(\w+)", Path("/proc/self/status").read_text())[0], 16)
    assert bounding == {"CapBnd": own, "CapEff": own}, "all that this host can give"
