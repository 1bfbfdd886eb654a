"""Entering a running container against one that works against it: what it says on the wire, what it keeps open, and its limits."""

from __future__ import annotations

import os
import pathlib
import socket
import struct
from collections.abc import Iterator

import pytest
from engine_lab import Lab

from bayplan.errors import Kernel
from bayplan.kernel import entering
from bayplan.kernel.pids import open_pidfd
from bayplan.kernel.process import ProgramNotFound
from bayplan.kernel.wire import ask_for_senders

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and cgroups take root")


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ask_for_senders(ours, True)
    yield ours, theirs
    ours.close()
    theirs.close()


def said(theirs: socket.socket, *messages: bytes) -> int:
    """A child that says `messages` and ends; its pid."""
    child = os.fork()
    if child == 0:
        for message in messages:
            theirs.send(message)
        os._exit(0)
    return child


def test_what_others_say_on_the_wire_is_not_believed(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    lies = [struct.pack("=Q", 1), struct.pack("=I", 1), b"E\0Invalid\0\x000", b"E\0\0", b"L1", b"\0" * 4000]
    liar = said(theirs, *lies)
    os.waitpid(liar, 0)
    between = said(theirs, struct.pack("=Q", 4711))
    assert entering.receive_child(ours, between, None) == 4711, "only who was made to say it is heard"
    with pytest.raises(ChildProcessError):
        os.waitpid(between, 0)  # it was reaped


@pytest.mark.parametrize("message", [b"E", b"E\0", b"E\0Kernel\0nan\0x", b"\xff" * 9, b"Lx", b"R", b"12345"])
def test_nonsense_is_an_error_and_no_crash(wire: tuple[socket.socket, socket.socket], message: bytes) -> None:
    ours, theirs = wire
    between = said(theirs, message)
    with pytest.raises(Kernel):
        entering.receive_child(ours, between, None)
    os.waitpid(between, 0)


@pytest.mark.parametrize("held", [False, True])
def test_a_wire_that_somebody_keeps_open_keeps_nobody(wire: tuple[socket.socket, socket.socket], held: bool) -> None:
    ours, theirs = wire
    child = os.fork()
    if child == 0:
        os.execv("/bin/sleep", ["sleep", "100"])
    if not held:
        theirs.close()
    pidfd = open_pidfd(child)
    entering.await_execution(ours, child, pidfd, "sleep")
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(pidfd)


def test_the_end_of_a_process_that_never_executed_anything_is_seen(wire: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = wire
    child = said(theirs)
    pidfd = open_pidfd(child)
    entering.await_execution(ours, child, pidfd, "x")
    os.waitpid(child, 0)
    failing = said(theirs, struct.pack("=I", 2))
    with pytest.raises(ProgramNotFound):
        entering.await_execution(ours, failing, -1, "x")
    os.waitpid(failing, 0)
    os.close(pidfd)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    found = Lab(tmp_path_factory.mktemp("entering"))
    yield found
    found.close()


def test_a_container_at_its_limit_of_processes_says_so(lab: Lab) -> None:
    lab.command("run", "-d", "--name", "full", "--network", "none", "--pids-limit", "2", "lab:1", "sh", "-c", "sleep 1000 & wait")
    refused = lab.command("exec", "full", "true", status=125)
    assert "limit of processes" in refused, f"{refused}"
    lab.command("rm", "-f", "full")
    lab.command("run", "-d", "--name", "room", "--network", "none", "--pids-limit", "3", "lab:1", "sleep", "1000")
    assert lab.command("exec", "room", "echo", "in") == "in\n", "one that has room for two more is entered"
    lab.command("rm", "-f", "room")


def test_who_enters_has_the_session_and_the_parent_that_it_should(lab: Lab) -> None:
    lab.command("run", "-d", "--name", "box", "--network", "none", "lab:1", "sleep", "1000")
    words = lab.command("exec", "box", "sh", "-c", "cat /proc/self/stat; echo; echo $PPID $$").split()
    assert words[5] == words[-1], "the shell leads its session"
    assert words[-2] == "0", "its parent is not of this pid namespace"
    terminal = lab.command("exec", "-t", "box", "sh", "-c", "echo in > /dev/tty; cat /proc/$$/stat")
    assert "in" in terminal and terminal.split()[7] != "0", "a terminal is the controlling one"
    lab.command("rm", "-f", "box")


def test_a_terminal_survives_the_one_between(lab: Lab, tmp_path: pathlib.Path) -> None:
    lab.command("run", "-d", "--name", "tty", "--network", "none", "lab:1", "sleep", "1000")
    assert "still" in lab.command("exec", "-t", "tty", "sh", "-c", "sleep 0.3; echo still"), "nobody hangs up on it"
    lab.command("rm", "-f", "tty")
