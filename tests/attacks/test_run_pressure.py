"""Floods, bombs, and callers that vanish: what is bounded stays bounded, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, Host, eventually

VANISHING = int(os.environ.get("ATTACK_CALLERS", "60"))  # 1,000 for the full number
LINE = int(os.environ.get("ATTACK_LINE_MIB", "64"))  # 1,024 for a line of a gigabyte
MEBIBYTE = 1 << 20


def memory(pid: int) -> int:
    """Bytes that the process has for itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) * 1024


def inside(host: Host, name: str) -> list[int]:
    """The processes of a container, from its control group."""
    found = host.record(name).id
    for place in (
        *Path("/sys/fs/cgroup").glob(f"pids/bayplan-*/{found}/cgroup.procs"),
        *Path("/sys/fs/cgroup").glob(f"bayplan-*/{found}/cgroup.procs"),
    ):
        return [int(each) for each in place.read_text().split()]
    return []


# while starting


def test_a_bomb_of_processes_finds_its_limit_in_place_at_its_first_instruction(host: Host) -> None:
    host.up("bomb", "bomb", "processes", options=(*NET, "--pids-limit", "30"))
    time.sleep(0.5)
    assert 1 < len(inside(host, "bomb")) <= 30, "it has what it was given"
    done = host.ran("exec", "bomb", "sh", "-c", "busybox true; busybox true", timeout=20)
    assert done.returncode != 0, f"what is brought in cannot make one more (version 1 lets itself in, beyond the limit): {done}"
    assert host.ran("run", "--rm", *NET, IMAGE, "echo", "well").stdout == b"well\n", "others start as always"
    host.command("stop", "-t", "0", "bomb")
    assert not inside(host, "bomb"), "and all of it is gone"


def test_a_memory_hog_is_ended_at_its_limit_and_the_caller_is_told(host: Host) -> None:
    done = host.ran("run", *NET, "--name", "hog", "--memory", "24m", IMAGE, "bomb", "memory", timeout=40)
    assert done.returncode == 137, f"{done}"
    assert host.command("inspect", "--format", "{{.State.OOMKilled}}", "hog") == "true\n"


@pytest.mark.parametrize("limits", [("--memory", "1m"), ("--memory", "4m"), ("--pids-limit", "1"), ("--ulimit", "nofile=3:3"),
                                    ("--ulimit", "nproc=1:1"),
                                    ("--ulimit", "as=1000000:1000000"), ("--ulimit", "fsize=0:0"), ("--ulimit", "cpu=1:1")],
                         ids=" ".join)  # fmt: skip
def test_a_limit_that_nothing_can_start_in_is_an_error_and_no_wait(host: Host, limits: tuple[str, ...]) -> None:
    before = len(host.command("ps", "-aq").split())
    done = host.ran("run", "--rm", *NET, *limits, "--user", "1000", IMAGE, "true", timeout=40)
    assert done.returncode in (0, 1, 125, 126, 127, 137, 139), f"{done}"
    assert done.returncode < 125 or done.stderr or done.returncode > 128, f"an error of ours says something: {done}"
    assert len(host.command("ps", "-aq").split()) == before, "and nothing is left"


@pytest.mark.parametrize("script", ["kill -STOP 1", "kill -KILL 1", "exit 3", "exec /nothing", "exec 1>&- 2>&-; exit 4"])
def test_a_first_process_that_ends_or_stops_at_once_keeps_nobody(host: Host, script: str) -> None:
    for number in range(5):
        host.ran("run", "-d", *NET, "--name", f"brief{number}", IMAGE, "sh", "-c", script, timeout=20)
    started = host.argv("run", "--rm", *NET, IMAGE, "sh", "-c", "kill -STOP $$; exit 5")
    with subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        for number in range(5):
            host.ran("rm", "-f", f"brief{number}", timeout=20)
        for each in host.command("ps", "-q").split():
            host.command("rm", "-f", each)
    assert host.command("ps", "-aq") == "", "each of them can be removed"


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_is_stopped_or_killed_while_it_is_brought_in_does_not_spoil_the_container(host: Host, number: int) -> None:
    host.up("target")
    for _ in range(5):
        with subprocess.Popen(
            host.argv("exec", "target", "sleep", "1000"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as entering:
            eventually(lambda: len(inside(host, "target")) > 1 or entering.poll() is not None, "it is in")
            for pid in inside(host, "target"):
                if pid != host.first("target"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            entering.kill()
        for pid in inside(host, "target"):
            if pid != host.first("target"):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(inside(host, "target")) == 1, "it is gone again")
    assert host.inside("target", "echo", "well") == "well\n"


# output


def test_a_flood_of_output_is_bounded_on_disk_and_in_memory(host: Host) -> None:
    """CVE-2022-1708, with bounds that are small: many short lines, and one that does not end."""
    options = (*NET, "--log-opt", "max-size=1m", "--log-opt", "max-file=2")
    line = f"dd if=/dev/zero bs=1M count={LINE} 2>/dev/null | busybox tr '\\0' a"
    for number, script in enumerate(
        (f"yes | head -c {LINE * MEBIBYTE // 4}", line, f"busybox cat /dev/urandom | head -c {LINE * MEBIBYTE // 8}")
    ):
        host.up(f"flood{number}", "sh", "-c", f"sleep 0.3; {script}; touch /done; sleep 1000", options=options)
        monitor = host.monitor(f"flood{number}")
        before = memory(monitor)
        written = host.directory(f"flood{number}") / "upper/done"
        eventually(written.exists, "all of it is written", 60)
        assert memory(monitor) - before < 4 * MEBIBYTE, "the monitor keeps what it needs for a line, and not the line"
        files = list(host.directory(f"flood{number}").glob("json.log*"))
        assert sum(each.stat().st_size for each in files) <= 2.2 * MEBIBYTE, f"two files of a mebibyte: {files}"
        assert host.ran("logs", "--tail", "1", f"flood{number}").returncode == 0, "what is kept can be read"


def test_output_of_exec_that_nobody_reads_costs_no_memory(host: Host) -> None:
    host.up("quiet")
    with subprocess.Popen(host.argv("exec", "quiet", "yes"), stdout=subprocess.PIPE) as entered:
        eventually(lambda: len(inside(host, "quiet")) == 2, "it writes")
        time.sleep(0.5)
        before = memory(entered.pid)
        time.sleep(1)
        assert memory(entered.pid) - before < MEBIBYTE, "it waits for its reader, and so does what it brought in"
        entered.kill()
    eventually(lambda: len(inside(host, "quiet")) == 1, "what writes to nobody ends")


# callers that vanish


def held(pid: int) -> tuple[int, int]:
    return len(os.listdir(f"/proc/{pid}/fd")), memory(pid)


@pytest.mark.parametrize("words", [("attach",), ("logs", "-f"), ("wait",), ("exec", "-i")], ids=" ".join)
def test_callers_that_vanish_leave_no_descriptor_process_or_memory(host: Host, words: tuple[str, ...]) -> None:
    """CVE-2025-64329."""
    host.up("visited", "sh", "-c", "while :; do echo line; busybox usleep 50000; done", options=(*NET, "-i"))
    monitor = host.monitor("visited")
    argv = host.argv(*words, "visited", *(("cat",) if words[0] == "exec" else ()))
    before = (0, 0)
    for count in range(0, VANISHING, 10):
        callers = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(10)]
        time.sleep(0.4)
        for each in callers:
            each.kill()
        for each in callers:
            each.communicate()
        if not count:  # what is allocated once is allocated by now
            settled = len(os.listdir(f"/proc/{monitor}/fd"))
            eventually(lambda: len(inside(host, "visited")) <= 2, "they are gone")
            before = held(monitor)
            del settled
    eventually(lambda: held(monitor)[0] <= before[0], f"no descriptor is left: {held(monitor)} after {before}")
    assert held(monitor)[1] - before[1] < MEBIBYTE // 2, f"nor memory: {held(monitor)} after {before}"
    eventually(lambda: len(inside(host, "visited")) <= 2, f"nor a process: {inside(host, 'visited')}")
    zombies = [pid for pid in os.listdir("/proc") if pid.isdigit() and state_and_parent(pid) == ("Z", str(monitor))]
    assert not zombies, "and none unreaped"


def state_and_parent(pid: str) -> tuple[str, str]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[1]


def test_connections_that_say_nothing_or_rubbish_are_bounded(host: Host) -> None:
    """Only root reaches the monitor's socket; even so, many that connect and stay silent leave room for an honest one."""
    import socket

    host.up("besieged")
    directory = host.directory("besieged")
    there = os.getcwd()
    crowd = []
    try:
        os.chdir(directory)  # the path of a socket is short
        for number in range(200):
            each = socket.socket(socket.AF_UNIX)
            each.settimeout(2)
            with contextlib.suppress(OSError):
                each.connect("monitor.sock")
                if number % 2:
                    each.send(os.urandom(64))
            crowd.append(each)
    finally:
        os.chdir(there)
    monitor = host.monitor("besieged")
    assert len(os.listdir(f"/proc/{monitor}/fd")) < 200, "they are turned away beyond a number"
    for each in crowd:
        each.close()
    eventually(lambda: len(os.listdir(f"/proc/{monitor}/fd")) < 20, "and forgotten")
    host.command("stop", "-t", "0", "besieged")
