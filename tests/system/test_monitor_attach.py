"""Clients of a monitor: the owner in the foreground, who attaches, who vanishes, who is slow."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from monitor_lab import Container, Lab, eventually

from bayplan.errors import Conflict
from bayplan.supervise import client
from bayplan.supervise.client import Session
from bayplan.supervise.frames import EXIT, STDERR, STDIN, STDOUT
from bayplan.supervise.pump import Streams, pump


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as started:
        yield started


def own(container: Container) -> Session:
    assert container.owner is not None
    return Session(container.owner)  # type: ignore[arg-type]


def collect(session: Session, until: bytes | None = None) -> dict[int, bytes]:
    """What arrives, by kind, up to the exit status or to a text."""
    got: dict[int, bytes] = {}
    deadline = time.monotonic() + 20
    while EXIT not in got and (until is None or until not in b"".join(got.values())):
        assert time.monotonic() < deadline, f"only {str(got)[:300]} arrived"
        select.select([session.socket], [], [], 1)
        for kind, payload in session.receive():
            got[kind] = got.get(kind, b"") + payload
    return got


def test_the_owner_gets_output_and_status_and_cleans_up_itself(lab: Lab) -> None:
    container = lab.start("echo out; echo err >&2; exit 3", owner=True, ephemeral=True)
    session = own(container)
    got = collect(session)
    assert (got[STDOUT], got[STDERR]) == (b"out\n", b"err\n")
    assert client.parse_exit(got[EXIT]).exit_code == 3
    assert container.poll() is None, "the monitor stays until the owner is through"
    session.cleaned()
    assert container.join() == 0
    assert not (container.directory / "after").exists(), "nobody else cleans up"
    assert not (container.directory / "exit").exists(), "nothing is written for what is removed anyway"


def test_an_owner_that_vanishes_leaves_the_cleaning_to_the_monitor(lab: Lab) -> None:
    container = lab.start("sleep 0.3; exit 3", owner=True, ephemeral=True)
    own(container).close()
    assert container.join() == 0
    assert (container.directory / "after").exists()
    assert client.read_exit(container.path) is not None


def test_an_owner_that_vanishes_after_the_status_leaves_the_cleaning_to_the_monitor(lab: Lab) -> None:
    container = lab.start("exit 3", owner=True, ephemeral=True)
    session = own(container)
    collect(session)
    session.close()
    assert container.join() == 0
    assert (container.directory / "after").exists()
    assert client.read_exit(container.path) is not None


def test_input_reaches_the_container_and_its_end_too(lab: Lab) -> None:
    container = lab.start("cat; echo end", owner=True, stdin=True, stdin_once=True)
    session = own(container)
    session.send(STDIN, b"typed\n")
    assert collect(session, b"typed\n")
    session.send(STDIN, b"")
    assert collect(session)[STDOUT] == b"end\n"


def test_a_gigabyte_less_nine_tenths_passes_through_both_ways_without_a_standstill(lab: Lab, tmp_path: Path) -> None:
    container = lab.start("cat", owner=True, stdin=True, stdin_once=True, log_driver="none")
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20) * 20)
    with open(source, "rb") as reads, open(target, "wb") as writes:
        status = pump(own(container), Streams(reads.fileno(), writes.fileno(), writes.fileno()))
    assert status is not None and status.exit_code == 0
    assert source.read_bytes() == target.read_bytes(), "every byte, in order"


def test_several_clients_see_the_same_and_one_that_comes_later_sees_the_rest(lab: Lab) -> None:
    container = lab.start("read line; echo first; read line; echo second", stdin=True)
    one, two = (lab.attach(container, stdin=True) for _ in range(2))
    one.send(STDIN, b"go\n")
    assert collect(one, b"first\n")[STDOUT] == collect(two, b"first\n")[STDOUT] == b"first\n"
    three = lab.attach(container, stdin=False)
    client.health(container.path)  # answered: the attach before it is served
    two.send(STDIN, b"go\n")
    assert collect(three)[STDOUT] == b"second\n"
    assert client.parse_exit(collect(one)[EXIT]).exit_code == 0


def test_a_terminal_passes_output_and_takes_its_size(lab: Lab) -> None:
    container = lab.start("stty size; read line; stty size", terminal=True, owner=True)
    session = own(container)
    collect(session, b"\r\n")
    session.resize(42, 123)
    client.health(container.path)
    session.send(STDIN, b"\n")
    assert b"42 123\r\n" in collect(session)[STDOUT]


def test_a_terminal_can_be_resized_by_any_client(lab: Lab) -> None:
    container = lab.start("read line; stty size", terminal=True)
    session = lab.attach(container, stdin=True)
    client.resize(container.path, 33, 77)
    session.send(STDIN, b"\n")
    assert b"33 77\r\n" in collect(session)[STDOUT]


def test_the_keys_that_detach_leave_the_container_running(lab: Lab) -> None:
    container = lab.start("cat", stdin=True, terminal=False)
    read, write = os.pipe()
    os.write(write, b"abc\x10\x11")
    null = os.open("/dev/null", os.O_WRONLY)
    session = lab.attach(container, stdin=True)
    assert pump(session, Streams(read, null, null, detach=b"\x10\x11")) is None
    session.close()
    for descriptor in (read, write, null):
        os.close(descriptor)
    assert container.poll() is None


def test_a_thousand_clients_that_vanish_leave_nothing(lab: Lab) -> None:
    container = lab.start("while :; do echo hello; sleep 0.01; done")
    lab.attach(container, stdin=True).close()
    client.health(container.path)
    time.sleep(0.2)
    descriptors, memory = container.descriptors(), container.memory("Private_Dirty")
    for number in range(1000):
        sock = client.connect(container.path)
        sock.send((b"", b"att", b"attach stdin\n", b"wait\n", b"health\n", b"nonsense\n", b"attach nostdin\n\0")[number % 7])
        if number % 3 == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    eventually(lambda: container.descriptors() == descriptors, "no descriptor is left")
    assert container.memory("Private_Dirty") < memory + 0.5, "no memory is left"
    assert not (container.directory / "monitor.error").exists()


def test_more_clients_than_it_can_take_are_turned_away_and_the_rest_is_served(lab: Lab) -> None:
    container = lab.start("sleep 1000")
    sockets = [client.connect(container.path) for _ in range(200)]
    eventually(lambda: container.descriptors() > 100, "they are accepted")
    assert container.descriptors() < 160, "but not without a limit"
    for sock in sockets:
        sock.close()
    eventually(lambda: container.descriptors() < 20, "and let go")
    assert client.health(container.path) == b"", "it serves on"


def test_a_client_that_reads_nothing_does_not_stop_the_container(lab: Lab) -> None:
    script = 'i=0; while [ $i -lt 40 ]; do head -c 50000 /dev/zero | tr "\\0" x; i=$((i+1)); done; echo; echo done >&2'
    container = lab.start(script, log_driver="none")
    stuck = lab.attach(container, stdin=False)
    begun = time.monotonic()
    assert client.wait(container.path).exit_code == 0
    assert 3 < time.monotonic() - begun < 15, "it holds the container up for a moment, then it is dropped"
    stuck.close()


def test_a_client_that_reads_slowly_for_longer_than_the_patience_loses_nothing(lab: Lab) -> None:
    container = lab.start("read go; seq 1 400000", stdin=True)
    session = lab.attach(container, stdin=True)
    session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    session.send(STDIN, b"go\n")
    got, begun = bytearray(), time.monotonic()
    while time.monotonic() - begun < 7:  # much slower than the container writes
        time.sleep(0.4)
        for kind, payload in session.receive():
            assert kind == STDOUT
            got += payload
    got += collect(session)[STDOUT]
    assert got == "".join(f"{number}\n" for number in range(1, 400001)).encode()


def test_an_owner_that_reads_nothing_holds_the_container_but_not_its_end(lab: Lab) -> None:
    container = lab.start("yes", owner=True)
    session = own(container)
    time.sleep(0.5)
    container.kill()
    begun = time.monotonic()
    assert client.wait(container.path).exit_code == 137
    assert time.monotonic() - begun < 2, "who waits hears of the end"
    assert client.read_exit(container.path) is not None, "and it is recorded"
    assert client.parse_exit(collect(session)[EXIT]).signal == 9, "the owner gets all when it reads again"
    session.cleaned()
    assert container.join() == 0


def test_the_end_of_a_terminals_process_is_noticed_at_once(lab: Lab) -> None:
    container = lab.start("read line; echo last words", terminal=True, owner=True)
    session = own(container)
    client.health(container.path)
    begun = time.monotonic()
    session.send(STDIN, b"\n")
    assert b"last words\r\n" in collect(session)[STDOUT]
    assert time.monotonic() - begun < 0.15
    session.cleaned()


def test_who_waits_gets_the_status_even_after_a_long_time_in_the_queue(lab: Lab) -> None:
    container = lab.start("sleep 0.5; exit 9")
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(client.wait(container.path).exit_code)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [9] * 20


@pytest.mark.parametrize(
    "line", ["attach", "attach all", "resize x y", "resize 1", "reload", "ports 1", "wait now", "x" * 1000, "\x1b[2J"]
)
def test_a_command_that_makes_no_sense_is_refused_with_a_reason(lab: Lab, line: str) -> None:
    container = lab.start("sleep 1000")
    with pytest.raises(Conflict, match="error"):
        client.command(container.path, line)
    assert client.health(container.path) == b"", "and the monitor serves on"


def test_garbage_instead_of_frames_drops_the_client_only(lab: Lab) -> None:
    container = lab.start("sleep 1000", stdin=True)
    for garbage in (b"\xff" * 100, b"\0\0\0\0\xff\xff\xff\xff", b"\4\0\0\0\0\0\0\1x", b"\4\0\0\0\0\0\0\5\xff \xff 1"):
        sock = client.connect(container.path)
        sock.send(b"attach stdin\n" + garbage)
        assert sock.recv(100) == b"", "the connection ends"
        sock.close()
    sock = client.connect(container.path)
    sock.send(b"attach stdin\n" * 10000)
    sock.close()
    assert client.health(container.path) == b""
    assert not (container.directory / "monitor.error").exists()


def test_descriptors_sent_with_a_command_that_wants_none_are_closed(lab: Lab) -> None:
    container = lab.start("sleep 1000")
    client.health(container.path)
    before = container.descriptors()
    with open("/dev/null") as null:
        for verb in ("health", "attach stdin", "wait", "ports", "ports - - -"):
            sock = client.connect(container.path)
            rights = struct.pack("2i", null.fileno(), null.fileno())
            sock.sendmsg([verb.encode() + b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            time.sleep(0.05)
            sock.close()
    eventually(lambda: container.descriptors() == before, "none stays open")
