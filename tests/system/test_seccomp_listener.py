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
        seccomp_listener.send(connection, listener, json.dumps(told).encode())
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


def test_an_agent_that_is_not_there_is_told_by_the_fields_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Unavailable, match="listenerPath"):
        seccomp_listener.connect(str(tmp_path / "absent.sock"))
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(Unavailable, match="seccomp agent"):
        seccomp_listener.send(ours.fileno(), 0, b"{}")


def test_a_tracers_number_and_a_kill_of_all_threads_arrive(tmp_path: pathlib.Path) -> None:
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
            os._exit(outcome(program))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected, name


def outcome(program: bytes) -> int:
    linux.unshare(linux.CLONE_NEWUTS)
    linux.seccomp_filter(program)
    try:
        linux.sethostname("x")
    except OSError as error:
        return error.errno or 1
    return 0
