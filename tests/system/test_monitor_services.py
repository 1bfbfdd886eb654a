"""What a monitor serves beside output: health, names, connections on ::1, other log drivers, and what it costs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monitor_lab import Container, Lab, eventually

from bayplan.store import status
from bayplan.supervise import client, dns
from bayplan.supervise.client import Port
from bayplan.supervise.launch import HealthCheck, MonitorSettings, write_settings


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as started:
        yield started


# Health


def state(container: Container) -> dict[str, Any]:
    path = container.directory / "health"
    return dict(json.loads(path.read_text())) if path.exists() else {"Status": "", "Log": []}


def checked(lab: Lab, probe: str, check: HealthCheck, name: str = "c") -> Container:
    settings = MonitorSettings(health=check)
    return lab.start("sleep 1000", name=name, settings=settings, health_argv=("/bin/sh", "-c", probe))


def test_a_container_becomes_healthy_unhealthy_and_healthy_again(lab: Lab, tmp_path: Path) -> None:
    container = checked(lab, f"echo looked; test ! -e {tmp_path}/ill", HealthCheck(interval=0.1, retries=2))
    eventually(lambda: state(container)["Status"] == "starting", "before the first probe it is starting")
    eventually(lambda: state(container)["Status"] == "healthy", "one good probe is enough")
    (tmp_path / "ill").touch()
    eventually(lambda: state(container)["Status"] == "unhealthy", "two bad ones in a row are enough")
    assert state(container)["FailingStreak"] >= 2
    assert state(container)["Log"][-1]["Output"] == "looked\n" and state(container)["Log"][-1]["ExitCode"] == 1
    (tmp_path / "ill").unlink()
    eventually(lambda: state(container)["Status"] == "healthy", "it recovers")
    eventually(lambda: len(state(container)["Log"]) == 5, "the last five results are kept")
    assert json.loads(client.health(container.path))["Status"] == "healthy"


def test_failures_in_the_start_period_do_not_count_but_success_does(lab: Lab, tmp_path: Path) -> None:
    check = HealthCheck(interval=30, start_period=60, start_interval=0.1, retries=1)
    container = checked(lab, f"test -e {tmp_path}/up", check)
    eventually(lambda: len(state(container)["Log"]) > 2, "it is probed at the start interval")
    assert state(container)["Status"] == "starting" and state(container)["FailingStreak"] == 0
    (tmp_path / "up").touch()
    eventually(lambda: state(container)["Status"] == "healthy", "the first success ends the starting")


def test_a_probe_that_hangs_is_killed_with_its_children_and_counts_as_failed(lab: Lab, tmp_path: Path) -> None:
    probe = f"sleep 1000 & echo $! > {tmp_path}/child; sleep 1000"
    container = checked(lab, probe, HealthCheck(interval=0.1, timeout=0.3, retries=1))
    eventually(lambda: state(container)["Status"] == "unhealthy", "a timeout is a failure")
    result = state(container)["Log"][-1]
    assert result["ExitCode"] == -1 and "exceeded timeout" in result["Output"]
    child = (tmp_path / "child").read_text().strip()
    write_settings(container.path, MonitorSettings())
    client.reload(container.path)
    eventually(lambda: not Path(f"/proc/{child}").exists(), "nothing of the probe is left")


def test_a_probe_that_prints_for_ever_is_read_and_only_the_beginning_kept(lab: Lab) -> None:
    container = checked(lab, "echo first; head -c 3000000 /dev/zero", HealthCheck(interval=0.1))
    eventually(lambda: len(state(container)["Log"]) == 5, "it does not block on a full pipe")
    assert container.directory.joinpath("health").stat().st_size < 5 * 4096 * 7
    assert state(container)["Log"][0]["Output"].startswith("first\n")
    assert len(state(container)["Log"][0]["Output"]) == 4096


def test_a_probe_that_cannot_be_started_says_so(lab: Lab) -> None:
    settings = MonitorSettings(health=HealthCheck(interval=0.1, retries=1))
    container = lab.start("sleep 1000", settings=settings, health_argv=("/nonexistent",))
    eventually(lambda: state(container)["Status"] == "unhealthy", "it is a failure")
    assert "could not be started" in state(container)["Log"][0]["Output"]


def test_a_check_can_be_added_changed_and_removed_while_the_container_runs(lab: Lab) -> None:
    container = lab.start("sleep 1000", health_argv=("/bin/true",))
    assert client.health(container.path) == b""
    write_settings(container.path, MonitorSettings(health=HealthCheck(interval=0.1)))
    client.reload(container.path)
    eventually(lambda: state(container)["Status"] == "healthy", "the check has begun")
    write_settings(container.path, MonitorSettings())
    client.reload(container.path)
    assert client.health(container.path) == b""


# Names


def listening(kind: int, host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    sock.bind((host, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(16)
    return sock


US = f"{os.getpid()}:{status.start_time(os.getpid())}"  # whose names are answered: as long as this process lives


class Names:
    """A container with a responder, and somebody who asks it."""

    def __init__(self, lab: Lab, upstreams: tuple[tuple[str, int], ...] = (), internal: bool = False) -> None:
        self.file = lab.directory / "names"
        self.file.write_text(f"10.0.0.2 web front {US}\n10.0.0.3 web {US}\nfd00::2 six {US}\n")
        self.settings = MonitorSettings(name_files=(str(self.file),), upstreams=upstreams, internal=internal)
        udp, tcp = listening(socket.SOCK_DGRAM), listening(socket.SOCK_STREAM)
        self.udp_address, self.tcp_address = udp.getsockname(), tcp.getsockname()
        self.container = lab.start(
            "sleep 1000",
            settings=self.settings,
            sockets=lambda: {"dns_udp_fds": (udp.detach(),), "dns_tcp_fds": (tcp.detach(),)},
        )
        udp.close()
        tcp.close()

    def ask(self, name: str, kind: int = dns.A, timeout: float = 10, edns: bool = False) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.sendto(packet(name, kind, edns=edns), self.udp_address)
            return sock.recv(4096)

    def insist(self, name: str) -> bytes:
        """As libc does: the kernel may have dropped the question, its queue being full."""
        for _ in range(20):
            try:
                return self.ask(name, timeout=0.5)
            except TimeoutError:
                continue
        raise AssertionError("no answer")

    def connect(self) -> socket.socket:
        return socket.create_connection(self.tcp_address, timeout=10)


def packet(name: str, kind: int = dns.A, edns: bool = False) -> bytes:
    option = b"\0\0\x29\x10\0" + b"\0" * 6 if edns else b""
    head = os.urandom(2) + b"\1\0\0\1\0\0\0\0\0" + bytes((int(edns),))
    return head + dns.encode_name(name.encode()) + kind.to_bytes(2, "big") + b"\0\1" + option


def addresses(response: bytes, question: bytes) -> set[str]:
    """IPv4 addresses of an answer; every record of ours is 16 bytes then."""
    end = dns.parse(question).end
    count = int.from_bytes(response[6:8], "big")
    records = (response[end + 16 * number : end + 16 * (number + 1)] for number in range(count))
    return {socket.inet_ntoa(record[12:]) for record in records}


class Upstream:
    """A resolver of the host: answers everything with 192.0.2.1, or as told, and counts."""

    def __init__(self, code: int = 0, silent: bool = False, truncate: bool = False) -> None:
        self.udp, self.tcp = listening(socket.SOCK_DGRAM), socket.socket()
        self.tcp.bind(self.udp.getsockname())
        self.tcp.listen(16)
        self.address: tuple[str, int] = self.udp.getsockname()
        self.seen: list[bytes] = []
        self.code, self.silent, self.truncate = code, silent, truncate
        for target in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=target, daemon=True).start()

    def _answer(self, question: bytes, limit: int) -> bytes:
        self.seen.append(question)
        records = [] if self.code else [(dns.A, socket.inet_aton("192.0.2.1"))]
        return dns.answer(question, dns.parse(question), self.code, records, limit)

    def _serve_udp(self) -> None:
        while True:
            try:
                question, sender = self.udp.recvfrom(4096)
            except OSError:
                return
            response = self._answer(question, 20 if self.truncate else 4096)
            if not self.silent:
                self.udp.sendto(response, sender)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                question = connection.recv(4096)[2:]
                response = self._answer(question, 65535)
                connection.sendall(len(response).to_bytes(2, "big") + response)

    def close(self) -> None:
        for sock in (self.udp, self.tcp):
            sock.shutdown(socket.SHUT_RDWR) if sock is self.tcp else None
            sock.close()


@pytest.fixture
def upstreams() -> Iterator[list[Upstream]]:
    started: list[Upstream] = []
    yield started
    for upstream in started:
        upstream.close()


def test_names_of_the_networks_are_answered_over_udp_and_tcp(lab: Lab) -> None:
    names = Names(lab)
    assert addresses(names.ask("Web"), packet("web")) == {"10.0.0.2", "10.0.0.3"}
    assert {names.ask("web")[-4:] for _ in range(4)} == {b"\x0a\0\0\2", b"\x0a\0\0\3"}, "they take turns"
    assert names.ask("six", dns.AAAA)[-16:] == socket.inet_pton(socket.AF_INET6, "fd00::2")
    assert names.ask("2.0.0.10.in-addr.arpa", dns.PTR).endswith(b"\3web\0")
    with names.connect() as connection:
        question = packet("front")
        for _ in range(3):
            connection.sendall((len(question).to_bytes(2, "big") + question) * 100)
        wanted = 300 * (2 + len(question) + 16)
        received = b""
        while len(received) < wanted:
            received += connection.recv(65536)
        assert received.count(b"\x0a\0\0\2") == 300, "many questions in one packet are all answered"


def test_a_name_of_ours_without_an_address_of_that_kind_exists_all_the_same(lab: Lab) -> None:
    names = Names(lab, upstreams=(("127.0.0.1", 9),))
    for kind in (dns.AAAA, 15, 65):
        response = names.ask("web", kind)
        assert dns.response_code(response) == 0 and response[6:8] == b"\0\0", "no data, and nobody else is asked"


def test_a_name_that_appears_later_is_answered_at_once(lab: Lab) -> None:
    names = Names(lab, internal=True)
    assert dns.response_code(names.ask("late")) == dns.NXDOMAIN
    (lab.directory / "new").write_text(f"10.0.0.9 late {US}\n")
    (lab.directory / "new").rename(names.file)
    assert names.ask("late")[-4:] == b"\x0a\0\0\x09"


def test_other_names_go_to_the_hosts_resolvers_unchanged(lab: Lab, upstreams: list[Upstream]) -> None:
    upstreams.append(Upstream())
    names = Names(lab, upstreams=(upstreams[0].address,))
    assert names.ask("Example.COM", edns=True)[2:4] == b"\x85\x80"
    assert b"\7Example\3COM" in upstreams[0].seen[0] and upstreams[0].seen[0].endswith(b"\x29\x10\0" + b"\0" * 6)
    with names.connect() as connection:
        question = packet("example.com")
        connection.sendall((len(question).to_bytes(2, "big") + question) * 3)
        received = b""
        while received.count(b"\xc0\0\2\1") < 3:
            more = connection.recv(65536)
            assert more, "three answers come"
            received += more
    assert len(upstreams[0].seen) == 4


def test_an_internal_network_asks_nobody_outside(lab: Lab, upstreams: list[Upstream]) -> None:
    upstreams.append(Upstream())
    names = Names(lab, upstreams=(upstreams[0].address,), internal=True)
    assert dns.response_code(names.ask("secret.example.com")) == dns.NXDOMAIN
    assert addresses(names.ask("front"), packet("front")) == {"10.0.0.2"}
    with names.connect() as connection:
        question = packet("secret.example.com")
        connection.sendall(len(question).to_bytes(2, "big") + question)
        assert dns.response_code(connection.recv(4096)[2:]) == dns.NXDOMAIN
    assert upstreams[0].seen == [], "not one packet left"


def test_the_next_resolver_is_asked_when_one_is_away_silent_or_refuses(lab: Lab, upstreams: list[Upstream]) -> None:
    upstreams += [Upstream(silent=True), Upstream(code=dns.REFUSED), Upstream()]
    gone = listening(socket.SOCK_DGRAM)
    away = gone.getsockname()
    gone.close()
    names = Names(lab, upstreams=(away, *(upstream.address for upstream in upstreams)))
    begun = time.monotonic()
    assert addresses(names.ask("example.com"), packet("example.com")) == {"192.0.2.1"}
    assert 1.5 < time.monotonic() - begun < 4, "only the silent one cost time"


def test_without_any_resolver_the_answer_is_a_failure_not_silence(lab: Lab) -> None:
    gone = listening(socket.SOCK_DGRAM)
    away = gone.getsockname()
    gone.close()
    names = Names(lab, upstreams=(away,))
    assert dns.response_code(names.ask("example.com")) == dns.SERVFAIL
    with names.connect() as connection:
        question = packet("example.com")
        connection.sendall(len(question).to_bytes(2, "big") + question)
        assert dns.response_code(connection.recv(4096)[2:]) == dns.SERVFAIL


def test_an_answer_that_nobody_asked_for_is_not_passed_on(lab: Lab) -> None:
    upstream = listening(socket.SOCK_DGRAM)
    names = Names(lab, upstreams=(upstream.getsockname(),))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, upstream:
        sock.settimeout(5)
        question = packet("example.com")
        sock.sendto(question, names.udp_address)
        forwarded, monitor = upstream.recvfrom(4096)
        query = dns.parse(forwarded)
        forged = packet("example.org")
        upstream.sendto(b"", monitor)
        upstream.sendto(b"\0" * 12, monitor)
        upstream.sendto(dns.answer(forged, dns.parse(forged), 0, [(dns.A, b"evil")], 512), monitor)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(dns.answer(forwarded, query, 0, [(dns.A, b"evil")], 512), monitor)
        upstream.sendto(dns.answer(forwarded, query, 0, [(dns.A, b"good")], 512), monitor)
        assert sock.recv(4096).endswith(b"good")


def test_a_flood_of_questions_to_a_silent_resolver_is_bounded(lab: Lab, upstreams: list[Upstream]) -> None:
    upstreams.append(Upstream(silent=True))
    names = Names(lab, upstreams=(upstreams[0].address,))
    names.ask("web")
    before, memory = names.container.descriptors(), names.container.memory("Private_Dirty")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(2000):
            sock.sendto(packet(f"x{number}.example.com"), names.udp_address)
        eventually(lambda: names.container.descriptors() > before + 20, "questions wait")
        assert names.container.descriptors() <= before + 96
        assert addresses(names.insist("front"), packet("front")) == {"10.0.0.2"}, "our own names are answered meanwhile"
    eventually(lambda: names.container.descriptors() == before, "nothing is left of them", 20)
    assert names.container.memory("Private_Dirty") < memory + 1


def test_garbage_is_ignored_and_names_are_answered_on(lab: Lab) -> None:
    names = Names(lab)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in (0, 1, 11, 12, 13, 100, 512, 4096, 60000):
            sock.sendto(os.urandom(size), names.udp_address)
        sock.sendto(b"\0" * 4 + b"\0\1" + b"\0" * 6 + b"\xc0\x0c\0\1\0\1", names.udp_address)
    for junk in (b"\0\0", b"\xff\xff" + os.urandom(70000), b"\0\5hello"):
        with names.connect() as connection:
            connection.settimeout(2)
            try:
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(10) == b""
            except OSError:
                pass
    assert addresses(names.ask("front"), packet("front")) == {"10.0.0.2"}
    assert not (names.container.directory / "monitor.error").exists()


def test_the_end_of_the_container_closes_the_responder_before_the_restart(lab: Lab, tmp_path: Path) -> None:
    names = Names(lab)
    write_settings(names.container.path, names.settings._replace(restart="always"))
    client.reload(names.container.path)
    names.ask("web")
    before = names.container.descriptors()
    names.container.kill()
    eventually(lambda: names.container.poll() is not None or names.container.descriptors() < before - 1, "closed")


# Connections on ::1


def echo_server() -> socket.socket:
    server = listening(socket.SOCK_STREAM)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"bye")

    threading.Thread(target=serve, daemon=True).start()
    return server


def relayed(lab: Lab, port: int) -> tuple[Container, Any]:
    listener = listening(socket.SOCK_STREAM, "::1")
    address = listener.getsockname()
    container = lab.start("sleep 1000", sockets=lambda: {"relays": ((listener.detach(), "127.0.0.1", port),)})
    listener.close()
    return container, address


def test_a_connection_on_the_hosts_own_ipv6_address_reaches_the_container(lab: Lab) -> None:
    server = echo_server()
    container, address = relayed(lab, server.getsockname()[1])
    data = os.urandom(3_000_000)
    received = bytearray()
    with socket.create_connection(address[:2], timeout=10) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        while more := connection.recv(65536):
            received += more
        sender.join()
    assert bytes(received) == data + b"bye", "every byte both ways, and the end of one way keeps the other open"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    assert not (container.directory / "monitor.error").exists()


def test_many_relayed_connections_are_bounded_and_leave_nothing(lab: Lab) -> None:
    server = echo_server()
    container, address = relayed(lab, server.getsockname()[1])
    client.health(container.path)
    before = container.descriptors()
    connections = [socket.create_connection(address[:2], timeout=10) for _ in range(110)]
    eventually(lambda: container.descriptors() >= before + 100, "they are relayed")
    assert container.descriptors() <= before + 2 * 96
    for connection in connections:
        connection.close()
    eventually(lambda: container.descriptors() == before, "nothing is left")
    with socket.create_connection(address[:2], timeout=10) as connection:
        connection.sendall(b"still there")
        assert connection.recv(100) == b"still there"
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_a_target_that_refuses_ends_the_connection(lab: Lab) -> None:
    gone = listening(socket.SOCK_STREAM)
    port = gone.getsockname()[1]
    gone.close()
    _, address = relayed(lab, port)
    with socket.create_connection(address[:2], timeout=10) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(10) == b""


def test_published_ports_are_replaced_in_place(lab: Lab) -> None:
    server = echo_server()
    old = listening(socket.SOCK_STREAM, "0.0.0.0")
    old_address = ("127.0.0.1", old.getsockname()[1])
    container = lab.start("sleep 1000", sockets=lambda: {"held_fds": (old.detach(),)})
    old.close()
    client.health(container.path)
    before = container.descriptors()
    relay, held = listening(socket.SOCK_STREAM, "::1"), listening(socket.SOCK_STREAM)
    address = relay.getsockname()
    client.replace_ports(
        container.path, (Port(relay.fileno(), "127.0.0.1", server.getsockname()[1]), Port(held.fileno()))
    )
    relay.close()
    held.close()
    with socket.create_connection(address[:2], timeout=10) as connection:
        connection.sendall(b"new")
        assert connection.recv(10) == b"new"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(old_address, timeout=2)
    client.replace_ports(container.path, ())
    eventually(lambda: container.descriptors() == before - 1, "all are given up")
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_four_hundred_published_ports_are_handed_over(lab: Lab) -> None:
    container = lab.start("sleep 1000")
    client.health(container.path)
    before = container.descriptors()
    with open("/dev/null") as null:
        client.replace_ports(container.path, tuple(Port(null.fileno()) for _ in range(400)))
    assert container.descriptors() == before + 400


# Other log drivers


def test_syslog_over_a_local_socket_survives_its_absence(lab: Lab, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    script = "i=0; while :; do echo line $i; echo bad $i >&2; i=$((i+1)); sleep 0.1; done"
    lab.start(script, log_driver="syslog", log_target=("unix", path, 0), log_tag="web server")
    time.sleep(0.3)
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            receiver.settimeout(5)
            first, second = receiver.recv(4096).decode(), receiver.recv(4096).decode()
            assert first.startswith(("<30>", "<27>")) and " web_server[" in first, first
            assert {first.split("]: ")[1].split()[0], second.split("]: ")[1].split()[0]} == {"line", "bad"}
        os.unlink(path)


def test_syslog_over_tcp_in_the_newer_format_is_one_line_a_message(lab: Lab) -> None:
    server = listening(socket.SOCK_STREAM)
    lab.start(
        "echo one; echo two; sleep 1000",
        log_driver="syslog",
        log_target=("tcp", "127.0.0.1", server.getsockname()[1]),
        log_format="rfc5424micro",
    )
    server.settimeout(5)
    connection, _ = server.accept()
    received = b""
    while received.count(b"\n") < 2:
        received += connection.recv(4096)
    first = received.split(b"\n")[0].decode().split(" ", 7)
    assert first[0] == "<30>1" and first[1].endswith("Z") and first[7] == "one", first
    connection.close()
    server.close()


def test_syslog_over_udp_is_sent_and_never_waited_for(lab: Lab) -> None:
    receiver = listening(socket.SOCK_DGRAM)
    receiver.settimeout(5)
    container = lab.start(
        "echo one; exit 0", log_driver="syslog", log_target=("udp", "127.0.0.1", receiver.getsockname()[1])
    )
    assert receiver.recv(4096).endswith(b": one")
    assert container.join() == 0
    receiver.close()
    flood = lab.start("seq 1 100000; exit 0", name="flood", log_driver="syslog", log_target=("tcp", "127.0.0.1", 9))
    assert flood.join() == 0, "a receiver that is not there costs lines, not time"


def test_a_receiver_given_by_name_is_never_looked_up_by_the_monitor(lab: Lab) -> None:
    target = ("udp", "localhost", 9)
    container = lab.start("seq 1 100000; exit 0", log_driver="syslog", log_target=target)
    assert container.join() == 0
    assert not (container.directory / "monitor.error").exists()


def test_other_drivers_write_no_file(lab: Lab) -> None:
    container = lab.start("echo one; exit 0", log_driver="none")
    assert container.join() == 0
    assert not list(container.directory.glob("json.log*"))


# What it costs


def test_fifty_monitors_that_have_answered_a_question_stay_below_four_mebibytes_each(lab: Lab) -> None:
    sockets = [(listening(socket.SOCK_DGRAM), listening(socket.SOCK_STREAM)) for _ in range(50)]
    (lab.directory / "names").write_text("".join(f"10.0.0.{number} web{number} {US}\n" for number in range(50)))
    settings = MonitorSettings(
        restart="always", name_files=(str(lab.directory / "names"),), health=HealthCheck(), upstreams=(("127.0.0.1", 9),)
    )
    containers = []
    for number, (udp, tcp) in enumerate(sockets):
        fields = {"dns_udp_fds": (udp.fileno(),), "dns_tcp_fds": (tcp.fileno(),)}
        containers.append(
            lab.start(
                "while :; do echo hello; sleep 1; done",
                name=f"c{number}",
                settings=settings,
                sockets=lambda fields=fields: fields,
                health_argv=("/bin/true",),
                restart_argv=("/bin/true",),
            )
        )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(10)
        for udp, _ in sockets:
            asker.sendto(packet("web7"), udp.getsockname())
            assert asker.recv(512).endswith(b"\x0a\0\0\7")
    for sock in (sock for pair in sockets for sock in pair):
        sock.close()
    sizes = [container.memory() for container in containers]
    assert max(sizes) <= 4.0, f"{max(sizes):.2f} MiB"
    assert "os" in sys.modules and not any((container.directory / "monitor.error").exists() for container in containers)


def test_an_idle_monitor_does_nothing(lab: Lab) -> None:
    container = lab.start("sleep 1000")
    client.health(container.path)
    time.sleep(0.2)

    def switches() -> int:
        status = Path(f"/proc/{container.monitor}/status").read_text()
        return int(status.split("voluntary_ctxt_switches:\t")[1].split()[0])

    before = switches()
    time.sleep(1.5)
    assert switches() <= before + 1, "it wakes for nobody"
