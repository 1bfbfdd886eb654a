"""What bayplan-oci passes on to a process: terminals and who gets them, descriptors, signals, an agent's listener."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import oci_lab
import pytest
from oci_lab import Console, Lab, read_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/busybox").exists(), reason="needs root and busybox-static")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with oci_lab.lab(tmp_path) as found:
        yield found


def test_create_sends_the_terminal_to_the_console_socket(lab: Lab) -> None:
    script = "tty; stty size < /dev/console; read line; echo got $line"
    bundle = lab.bundle("sh", "-c", script, terminal=True, consoleSize={"height": 30, "width": 90})
    console = Console(lab.directory / "console.sock")
    lab.create("c1", bundle, "--console-socket", str(console.path))
    terminal = console.take()
    lab.ok("start", "c1")
    assert until(terminal, "30 90") == "/dev/pts/0\r\n30 90\r\n", "it is the console, too, and has the size that was asked for"
    os.write(terminal, b"typed\n")
    assert read_all(terminal) == "typed\ngot typed\n", "what is typed arrives"
    lab.wait("c1", "stopped")


def test_exec_sends_a_terminal_of_its_own(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    console = Console(lab.directory / "console.sock")
    lab.ok("exec", "--tty", "--detach", "--console-socket", str(console.path), "c1", "sh", "-c", "tty; exit 3")
    assert read_all(console.take()).startswith("/dev/pts/"), "of the container's own devpts"


def test_a_console_socket_with_a_long_path_is_found(lab: Lab) -> None:
    deep = lab.directory / ("d" * 120)
    deep.mkdir()
    console = Console(lab.directory / "console.sock")
    console.path.rename(deep / "console.sock")
    lab.create("c1", lab.bundle("sh", "-c", "echo here", terminal=True), "--console-socket", str(deep / "console.sock"))
    lab.ok("start", "c1")
    assert read_all(console.take()) == "here\n", "107 bytes are no limit"


def test_a_terminal_that_nobody_would_have_is_refused(lab: Lab) -> None:
    bundle = str(lab.bundle("sh", terminal=True))
    for words, said in (
        (("create", "--bundle", bundle, "c1"), "--console-socket"),
        (("run", "--detach", "--bundle", bundle, "c1"), "--console-socket"),
        (("create", "--bundle", bundle, "--console-socket", "/nonexistent/sock", "c1"), "/nonexistent/sock"),
        (("create", "--bundle", str(lab.bundle("sh", name="plain")), "--console-socket", "/x", "c1"), "no terminal"),
    ):
        done = lab.run(*words)
        assert done.returncode == 1 and said in done.stderr and not lab.ok("list", "-q"), f"{words}: {done}"


def test_run_lends_its_own_terminal_and_gives_it_back(lab: Lab) -> None:
    bundle = lab.bundle("sh", "-c", "tty; stty size; read line; echo got $line; exit 5", terminal=True)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(lab.command("run", "--bundle", str(bundle), "c1"), stdin=slave, stdout=slave, stderr=slave)
    said = until(master, "33 77")
    os.write(master, b"typed\n")
    said += until(master, "got typed")
    assert child.wait(20) == 5 and "/dev/pts/0" in said, "size, typing and exit status come through"
    assert termios.tcgetattr(slave) == before, "the terminal is as it was"
    os.close(master)
    os.close(slave)


def test_descriptors_are_passed_on_as_they_are_asked_for(lab: Lab) -> None:
    ends = [os.pipe() for _ in range(2)]
    script = "ls /proc/self/fd; echo three >&3; echo four >&4"
    for command in (("run", "--bundle", str(lab.bundle("sh", "-c", script)), "c1"), ("exec", "c2", "sh", "-c", script)):
        if command[0] == "exec":
            lab.create("c2", lab.bundle("sleep", "1000", name="two"))
            lab.ok("start", "c2")
        words = (command[0], "--preserve-fds", "2", *command[1:])
        done = with_descriptors(lab.command(*words), {3: ends[0][1], 4: ends[1][1], 9: ends[1][1]})
        assert done.returncode == 0 and "9" not in done.stdout.split(), f"no other descriptor: {done}"
        assert (os.read(ends[0][0], 99), os.read(ends[1][0], 99)) == (b"three\n", b"four\n"), "in their order"
    for pair in ends:
        os.close(pair[0])
        os.close(pair[1])


def test_a_descriptor_that_is_not_open_is_refused(lab: Lab) -> None:
    done = lab.run("run", "--preserve-fds", "2", "--bundle", str(lab.bundle("true")), "c1")
    assert done.returncode == 1 and "descriptor 3 is not open" in done.stderr, f"whatever we have open ourselves by then: {done}"


def test_sockets_of_a_service_manager_are_passed_on(lab: Lab) -> None:
    reader, writer = os.pipe()
    bundle = lab.bundle("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID >&3")
    shell = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", *lab.command("run", "--bundle", str(bundle), "c1")]
    assert with_descriptors(shell, {3: writer}).returncode == 0 and os.read(reader, 99) == b"1 1\n", "to process 1 (sd_listen_fds(3))"
    done = subprocess.run(lab.command("run", "--bundle", str(lab.bundle("sh", "-c", "echo $LISTEN_FDS")), "c1"),
                          env={**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"}, capture_output=True, text=True)  # fmt: skip
    assert done.stdout == "\n", "not those that are somebody else's"
    os.close(reader)
    os.close(writer)


def test_a_created_container_keeps_nobody_waiting(lab: Lab) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    bundle = lab.bundle("sleep", "1000")
    done = subprocess.run(lab.command("create", "--bundle", str(bundle), "c1"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, close_fds=False, timeout=20)  # fmt: skip
    os.close(writer)
    assert done.returncode == 0 and select.select([reader], [], [], 10)[0] and os.read(reader, 1) == b"", "a pipe that it inherited closes"
    os.close(reader)


def test_run_passes_signals_on(lab: Lab) -> None:
    script = "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.02; done"
    child = subprocess.Popen(lab.command("run", "--bundle", str(lab.bundle("sh", "-c", script)), "c1"), stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.communicate(timeout=20)[0] == "told\n" and child.returncode == 4, "the container's process is told, and answers"


def test_exec_ends_though_its_process_leaves_another_behind_with_its_output(lab: Lab) -> None:
    lab.create("c1", lab.bundle("sleep", "1000"))
    lab.ok("start", "c1")
    begun = time.monotonic()
    assert lab.ok("exec", "c1", "sh", "-c", "echo said; sleep 1001 &") == "said\n", "what it wrote arrives"
    assert time.monotonic() - begun < 100, "and exec does not wait for the other"
    assert len(json.loads(lab.ok("ps", "-f", "json", "c1"))) == 2, "which lives on"


def until(terminal: int, text: str) -> str:
    said = ""
    while f"{text}\r\n" not in said:
        assert select.select([terminal], [], [], 20)[0], f"{text!r} comes within twenty seconds: {said!r}"
        said += os.read(terminal, 4096).decode()
    return said


def with_descriptors(command: list[str], wanted: dict[int, int]) -> subprocess.CompletedProcess[str]:
    """Run it with these descriptors, numbered so, and no other."""
    high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for number, fd in wanted.items()}

    def give() -> None:
        for number, fd in high.items():
            os.dup2(fd, number)

    done = subprocess.run(command, preexec_fn=give, pass_fds=tuple(wanted), capture_output=True, text=True, timeout=60)
    for fd in high.values():
        os.close(fd)
    return done
