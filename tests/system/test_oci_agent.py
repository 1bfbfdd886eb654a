"""A seccomp agent (`linux.seccomp.listenerPath`) that answers for the processes of containers of bayplan-oci."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import oci_lab
import pytest
from oci_lab import Json, Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/busybox").exists(), reason="needs root and busybox-static")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with oci_lab.lab(tmp_path) as found:
        yield found


class Agent:
    """It answers every call that it is told of with ENOSPC, one connection after the other."""

    def __init__(self, path: Path) -> None:
        self.told: list[Json] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(9)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                text, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_LEN(4))
                while piece := connection.recv(65536):
                    text += piece
            self.told.append(json.loads(text))
            (listener,) = array.array("i", ancillary[0][2])
            self._threads.append(threading.Thread(target=self._answer, args=(listener,), daemon=True))
            self._threads[-1].start()

    @staticmethod
    def _answer(listener: int) -> None:
        try:
            while True:
                notification = bytearray(80)
                fcntl.ioctl(listener, _RECEIVE, notification)
                (identity,) = struct.unpack_from("=Q", notification)
                fcntl.ioctl(listener, _SEND, bytearray(struct.pack("=QqiI", identity, 0, -errno.ENOSPC, 0)))
        except OSError:  # ENOENT: the last process under the filter has ended
            os.close(listener)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def agent(lab: Lab) -> Iterator[Agent]:
    found = Agent(lab.directory / "agent.sock")
    yield found
    for name in lab.ok("list", "--quiet").split():
        lab.ok("delete", "--force", name)
    found.close()


def watched(lab: Lab) -> Json:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}
    agent = {"listenerPath": str(lab.directory / "agent.sock"), "listenerMetadata": "words"}
    return {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], **agent}}}


def test_the_agent_answers_for_the_container_and_for_what_is_executed_in_it(lab: Lab, agent: Agent) -> None:
    done = lab.run("run", "--bundle", str(lab.bundle("mkdir", "/tmp/x", change=watched(lab))), "c1")
    assert "No space left on device" in done.stderr, f"run: {done}"
    script = "mkdir /tmp/x 2> /tmp/said; exec sleep 1000"
    lab.create("c2", lab.bundle("sh", "-c", script, change=watched(lab)))
    lab.ok("start", "c2")
    assert "No space left on device" in lab.run("exec", "c2", "mkdir", "/tmp/y").stderr, "exec"
    lab.ok("exec", "c2", "sh", "-c", "until [ -s /tmp/said ]; do sleep 0.01; done")
    assert "No space left on device" in (lab.directory / "rootfs/tmp/said").read_text(), "start"
    assert [each["state"]["id"] for each in agent.told] == ["c1", "c2", "c2", "c2"], "once for each process that was started"
    assert {(each["metadata"], tuple(each["fds"])) for each in agent.told} == {("words", ("seccompFd",))}, "with what the profile says"
    pid = lab.state("c2")["pid"]
    assert agent.told[1]["pid"] == agent.told[1]["state"]["pid"] == pid and agent.told[2]["pid"] != pid, "and which process it is"


def test_an_agent_that_is_not_there_is_said(lab: Lab) -> None:
    done = lab.run("run", "--bundle", str(lab.bundle("true", change=watched(lab))), "c1")
    assert done.returncode == 1 and "agent.sock" in done.stderr and lab.ok("list", "-q") == "", f"by its path: {done}"
