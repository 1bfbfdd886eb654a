"""What a container or a process brought into one must not get from its caller, from another container, or be able to reach of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, Host, eventually, weakened
from sandbox_lab import Box

from bayplan.engine import containers, stop
from bayplan.errors import BayplanError, Conflict
from bayplan.kernel import pids
from bayplan.model.runtime import Namespace
from bayplan.store import status

CALLER = """
import ctypes, os, resource, signal, sys
os.umask(0o777)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGCHLD, 40):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
os.kill(os.getpid(), signal.SIGUSR2)
for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
    signal.setitimer(which, 1000)
os.nice(7)
open('/proc/self/oom_score_adj', 'w').write('500')
libc = ctypes.CDLL(None)
libc.prctl(1, 9)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""
CLEAN = {"timer0": "0", "timer1": "0", "timer2": "0", "ignored": "0", "blocked": "0", "umask": "22", "nice": "0", "oom": "0", "death": "0",
         "policy": "0", "securebits": "0", "keepcaps": "0", "session": "1"}  # fmt: skip


def by_caller(host: Host, *words: str, runtime: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line started by somebody who has all of that set."""
    argv = host.argv(*words, runtime=runtime) if runtime else host.argv(*words)
    command = [sys.executable, "-c", CALLER, *argv]  # as a shell after `trap "" CHLD`, or a supervisor
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_caller_s_umask_signals_timers_and_priority_end_with_the_caller(host: Host, verb: str) -> None:
    host.up("entered")
    words = ("exec", "entered") if verb == "exec" else ("run", "--rm", *NET, IMAGE)
    done = by_caller(host, *words, "inherited")
    found = dict(line.split() for line in done.stdout.splitlines())
    assert {name: found.get(name) for name in CLEAN} == CLEAN, f"{done}"


def test_without_the_reset_they_reach_the_container(host: Host, tmp_path: Path) -> None:
    weak = weakened(
        tmp_path / "weak",
        ("kernel/build.py", "    linux.reset_signals()\n", ""),
        ("kernel/build.py", "    _write_oom_score(wanted.oom_score_adj or 0)\n", ""),
        ("kernel/build.py", "    _reset_priority()\n", ""),
    )
    host.up("entered")
    found = dict(line.split() for line in by_caller(host, "exec", "entered", "inherited", runtime=weak).stdout.splitlines())
    assert found["ignored"] != "0" and found["blocked"] != "0" and found["nice"] == "7" and found["oom"] == "500", (
        f"so the test bites: {found}"
    )


HOSTILE = {"LD_PRELOAD": "/evil.so", "LD_LIBRARY_PATH": "/evil", "PYTHONPATH": "/evil", "PYTHONSTARTUP": "/evil", "PYTHONHOME": "/evil",
           "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error", "SECRET_OF_THE_CALLER": "hunter2", "BASH_ENV": "/evil",
           "TMPDIR": "/evil"}  # fmt: skip


def test_a_caller_s_environment_reaches_neither_the_container_nor_the_monitor_nor_what_is_entered(host: Host) -> None:
    environment = {name: value for name, value in HOSTILE.items() if name != "LD_PRELOAD"}
    subprocess.run(
        host.argv("run", "-d", *NET, "--name", "plain", IMAGE, "sleep", "1000"),
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    entered = subprocess.run(host.argv("exec", "plain", "env"), env={**os.environ, **environment}, capture_output=True, timeout=60).stdout
    for seen in (entered, *(Path(f"/proc/{pid}/environ").read_bytes() for pid in (host.first("plain"), host.monitor("plain")))):
        assert seen and not any(name.encode() in seen for name in HOSTILE), f"{seen!r}"


def test_the_environment_of_one_container_or_entry_is_in_no_other(host: Host) -> None:
    """CVE-2020-14370."""
    host.up("first", options=(*NET, "-e", "SECRET_A=one"))
    host.up("second", options=(*NET, "-e", "SECRET_B=two"))
    host.command("exec", "-e", "SECRET_C=three", "first", "true")
    both = [host.inside(name, "env") for name in ("first", "second")]
    assert "SECRET_A=one" in both[0] and "SECRET_B=two" in both[1]
    assert "SECRET_B" not in both[0] and "SECRET_A" not in both[1] and "SECRET_C" not in "".join(both), f"{both}"
    assert b"SECRET" not in Path(f"/proc/{host.monitor('first')}/environ").read_bytes(), "nor in a process of ours"
    assert b"one" not in Path(f"/proc/{host.monitor('first')}/cmdline").read_bytes()


# numbers of processes that were given to others


@pytest.mark.parametrize("verb", ["stop", "kill", "rm", "restart", "top", "exec"])
def test_a_number_that_now_is_another_process_gets_no_signal(host: Host, verb: str) -> None:
    """The record says process N of the same boot, and N is somebody else by now."""
    host.up("gone")
    directory = host.directory("gone")
    started = status.read_started(str(directory))
    assert started is not None
    with subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL) as other:
        try:
            os.kill(started.monitor, signal.SIGKILL)
            os.kill(started.pid, signal.SIGKILL)
            eventually(lambda: not status.process_alive(started, status.boot_id()), "it has ended")
            status.write_file(f"{directory}/started", json.dumps(started._replace(pid=other.pid, monitor=other.pid)._asdict()))
            words = {"stop": ("-t", "0", "gone"), "kill": ("gone",), "rm": ("-f", "gone"), "restart": ("-t", "0", "gone"), "top": ("gone",)}
            done = host.ran(verb, *words.get(verb, ("gone", "true")))
            assert other.poll() is None, f"it lives: {done}"
        finally:
            other.kill()


def test_with_the_number_alone_the_other_process_is_hit(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.up("gone")
    state, record = host.state(), host.record("gone")
    started = containers.started(state, record)
    with subprocess.Popen(["sleep", "1000"]) as other:
        status.write_file(f"{host.directory('gone')}/started", json.dumps(started._replace(pid=other.pid)._asdict()))
        with pytest.raises(Conflict):
            stop.kill(state, record)
        monkeypatch.setattr(pids, "is_alive", lambda _: True)
        monkeypatch.setattr(status, "process_alive", lambda *_: True)
        stop.kill(state, record)
        assert other.wait(10) == -signal.SIGKILL, "so the attack bites"
    monkeypatch.undo()
    status.write_file(f"{host.directory('gone')}/started", json.dumps(started._asdict()))


# namespaces that are the container's


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid"])
def test_a_namespace_to_join_is_one_and_of_its_kind(box: Box, tmp_path: Path, kind: str) -> None:
    """CVE-2022-1227: the path of a namespace leads to what the container has put there."""
    fake, fifo = tmp_path / "fake", tmp_path / "fifo"
    fake.write_text("")
    os.mkfifo(fifo)
    other = "uts" if kind != "uts" else "ipc"
    for path in (str(fake), str(tmp_path), f"/proc/self/ns/{other}", "/proc/self/ns/user", "/proc/self/status", "/nothing"):
        config = box.config("true")
        spaces = tuple(each for each in config.linux.namespaces if each.type != kind)
        with pytest.raises(BayplanError):
            box.run_config(config._replace(linux=config.linux._replace(namespaces=(*spaces, Namespace(kind, path)))))


def test_nothing_of_the_containers_is_run_to_look_at_it(host: Host) -> None:
    """CVE-2022-1227, CVE-2019-14271: `top` ran the image's nsenter, and `cp` loaded its libraries."""
    evil = "for p in ps top nsenter getent id sh tar; do rm -f /bin/$p; busybox cp /bin/evil /bin/$p; done; exec busybox sleep 1000"
    host.up(
        "traps",
        "sh",
        "-c",
        f"printf '#!/bin/busybox sh\\nbusybox touch /sprung\\n' >/bin/evil; chmod 755 /bin/evil; busybox cp /bin/busybox /b; {evil}",
    )
    host.wait("the traps are laid", lambda: "sprung" in host.inside("traps", "/bin/busybox", "cat", "/bin/tar"))
    for words in (("top", "traps"), ("ps", "-a"), ("inspect", "traps"), ("logs", "traps"), ("stop", "-t", "0", "traps"), ("ps", "-a")):
        host.command(*words)
    assert not (host.directory("traps") / "upper/sprung").exists(), "no program of the image's was run"


def test_a_process_name_full_of_escapes_reaches_no_terminal_raw(host: Host) -> None:
    from cli_lab import Typist

    host.up("escapes", "sh", "-c", "exec busybox sh -c 'sleep 1000; true' \"$(printf '\\033]0;gotcha\\007\\033[2J')\"")
    typist = Typist(host.argv("top", "escapes"))
    assert typist.end() == 0 and b"sleep" in typist.seen
    assert b"\x1b" not in typist.seen and b"\x07" not in typist.seen, f"{typist.seen!r}"


def test_no_socket_of_ours_is_in_the_abstract_namespace(host: Host) -> None:
    """CVE-2020-15257: with the host's network its abstract sockets are within reach. All phases of a life are looked at."""
    before = abstract()
    host.up("listener", options=("--network", "host"))
    with subprocess.Popen(host.argv("logs", "-f", "listener"), stdout=subprocess.DEVNULL) as follower:
        with subprocess.Popen(host.argv("exec", "listener", "sleep", "1"), stdout=subprocess.DEVNULL) as entered:
            while entered.poll() is None:
                assert abstract() <= before | others(host), "no new one"
        follower.kill()
    host.command("rm", "-f", "listener")


def abstract() -> set[str]:
    """Addresses of the host's abstract sockets with their inodes."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {f"{row[6]} {row[7]}" for row in rows if len(row) > 7 and row[7].startswith("@")}


def others(host: Host) -> set[str]:
    """Those that belong to no process of this state: the machine is shared."""
    ours = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if host.path.encode() in (directory / "cmdline").read_bytes():
                ours |= {os.readlink(each) for each in (directory / "fd").iterdir()}
        except OSError:
            continue
    return {each for each in abstract() if f"socket:[{each.split()[0]}]" not in ours}
