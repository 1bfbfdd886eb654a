"""SCMP_ACT_NOTIFY for real: a process under the filter, and an agent that gets its listener and answers its calls."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct

import pytest
from kernel_lab import needs

from bayplan.errors import Unavailable
from bayplan.kernel import linux, seccomp, seccomp_listener
from bayplan.model.runtime import Seccomp, SyscallRule

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a filter without no_new_privs takes root")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
STATE = {"ociVersion": "1.2.0", "id": "box", "status": "creating", "pid": 42, "bundle": "/b"}
PROFILE = Seccomp("custom", "SCMP_ACT_ALLOW", None, (), (SyscallRule(("getppid",), "SCMP_ACT_NOTIFY"),), (), "/agent", "words")


def watched(profile: Seccomp) -> tuple[int, int, int]:
    """A child under the profile's filter that asks for its parent and reports the answer: (pid, listener, pipe)."""
    program, flags = seccomp.filter_bytes(profile, (), machine=linux.MACHINE), seccomp.filter_flags(profile)
    reader, writer = os.pipe()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if not child:
        try:
            listener = linux.seccomp_filter(program, flags=flags)
            seccomp_listener.send(there.fileno(), listener, b"x")
            os.close(listener)
            os.write(writer, struct.pack("=q", os.getppid()))
        finally:
            os._exit(0)
    os.close(writer)
    with here, there:
        fds = array.array("i")
        _, ancillary, _, _ = here.recvmsg(1, socket.CMSG_LEN(fds.itemsize))
        fds.frombytes(ancillary[0][2])
    return child, fds[0], reader


@pytest.mark.parametrize("flags", [(), ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")])
def test_an_agent_answers_the_calls_that_the_profile_names(flags: tuple[str, ...]) -> None:
    child, listener, reader = watched(PROFILE._replace(flags=flags))
    notification = bytearray(80)
    fcntl.ioctl(listener, _RECEIVE, notification)
    identity, pid = struct.unpack_from("=QI", notification)
    assert pid == child and struct.unpack_from("=i", notification, 16)[0] == seccomp.numbers(linux.MACHINE)["getppid"], "the call is told"
    fcntl.ioctl(listener, _SEND, bytearray(struct.pack("=QqiI", identity, 4711, 0, 0)))
    assert struct.unpack("=q", os.read(reader, 8)) == (4711,), "the call's result is the agent's answer"
    os.waitpid(child, 0)
    os.close(listener)
    os.close(reader)


def test_the_agent_gets_the_listener_and_the_state_once_and_whole(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    os.chdir(deep)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("agent.sock")
        os.chdir("/")
        server.listen(1)
        connection = seccomp_listener.connect(str(deep / "agent.sock"))
        agent, _ = server.accept()
    assert not os.get_inheritable(connection), "no program of the container's gets the connection"
    told = seccomp_listener.process_state(STATE, pid=42, metadata="words" * 20000)
    listener = os.open("/dev/null", os.O_RDONLY)
    child = os.fork()
    if not child:
        try:
            seccomp_listener.send(connection, listener, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(connection)
    text, received = b"", array.array("i")
    with agent:
        while True:
            part, ancillary, _, _ = agent.recvmsg(65536, socket.CMSG_LEN(4 * received.itemsize))
            for _, _, data in ancillary:
                received.frombytes(data)
            text += part
            if not part:
                break
    os.waitpid(child, 0)
    document = json.loads(text)
    assert document == {"ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": 42, "metadata": "words" * 20000, "state": STATE}
    assert len(received) == 1 and os.path.samestat(os.fstat(received[0]), os.fstat(listener)), "one descriptor came, the listener"
    os.close(received[0])
    os.close(listener)


@needs("pidfd_open (Linux 5.3)")
def test_a_listener_is_fetched_from_a_process_that_can_do_little_but_write() -> None:
    """How the runtime gets it: told the number by write(2), it copies the descriptor, and says so before the process goes on."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this Python cannot open a pidfd")
    held = ("sendmsg", "sendto", "read", "close", "setresuid", "capset", "execveat", "getppid")
    profile = PROFILE._replace(syscalls=(SyscallRule(held, "SCMP_ACT_NOTIFY"),))
    program, flags = seccomp.filter_bytes(profile, (), machine=linux.MACHINE), seccomp.filter_flags(profile)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire = theirs.fileno()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.write(wire, b"%d" % linux.seccomp_filter(program, flags=flags))
            os.read(wire, 1)  # waits for the agent, then for the runtime
            code = os.getppid() % 256
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        pidfd = os.pidfd_open(child)
        listener = linux.pidfd_getfd(pidfd, int(ours.recv(16)))
        assert answer(listener, proceed=True) == seccomp.numbers(linux.MACHINE)["read"], "the agent serves the runtime's own steps, too"
        ours.send(b"x")
        answer(listener, result=77)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77, "and then the program's"
    os.close(listener)
    os.close(pidfd)


def answer(listener: int, *, proceed: bool = False, result: int = 0) -> int:
    """Let the call that waits go on, or give it a result; returns its number."""
    notification = bytearray(80)
    fcntl.ioctl(listener, _RECEIVE, notification)
    identity, _, _, number = struct.unpack_from("=QIIi", notification)
    fcntl.ioctl(listener, _SEND, bytearray(struct.pack("=QqiI", identity, result, 0, proceed)))
    return int(number)


def test_an_agent_that_is_not_there_is_told_by_the_fields_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Unavailable, match="listenerPath"):
        seccomp_listener.connect(str(tmp_path / "absent.sock"))
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(Unavailable, match="seccomp agent"):
        seccomp_listener.send(ours.fileno(), 0, b"{}")


def test_the_actions_do_what_their_names_say() -> None:
    """The actions that end a process, and the one that a missing tracer turns into ENOSYS."""
    for name, expected in (
        ("SCMP_ACT_KILL_PROCESS", -signal.SIGSYS),
        ("SCMP_ACT_KILL", -signal.SIGSYS),
        ("SCMP_ACT_TRAP", -signal.SIGSYS),
        ("SCMP_ACT_TRACE", 38),
        ("SCMP_ACT_ERRNO", 95),
        ("SCMP_ACT_LOG", 0),
    ):
        errno = 95 if name in ("SCMP_ACT_TRACE", "SCMP_ACT_ERRNO") else None
        profile = Seccomp("custom", "SCMP_ACT_ALLOW", None, (), (SyscallRule(("sethostname",), name, errno),))
        program = seccomp.filter_bytes(profile, (), machine=linux.MACHINE)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = outcome(program)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected, name


def outcome(program: bytes) -> int:
    linux.unshare(linux.CLONE_NEWUTS)
    linux.seccomp_filter(program)
    try:
        linux.sethostname("x")
    except OSError as error:
        return error.errno or 1
    return 0
