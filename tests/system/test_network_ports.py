from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from network_lab import Lab

from bayplan.errors import Conflict, Invalid
from bayplan.kernel import ports
from bayplan.kernel.ruleset import Publication


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def web(host_ip: str = "", port: int = 8080, protocol: str = "tcp", address: str = "10.89.0.5") -> Publication:
    return Publication(protocol, host_ip, port, address, 80)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("reusing", [True, False])
def test_a_held_port_is_refused_to_others_by_the_kernel(lab: Lab, protocol: str, reusing: bool) -> None:
    held = lab.on_host(lambda: ports.reserve([web(protocol=protocol)]))
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with lab.on_host(lambda: socket.socket(socket.AF_INET, kind)) as other:
        if reusing and protocol == "tcp":
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", 8080))
            other.listen()
    with pytest.raises(Conflict, match=f"port 8080/{protocol}"):
        lab.on_host(lambda: ports.reserve([web(protocol=protocol)]))
    ports.release(held)
    ports.release(lab.on_host(lambda: ports.reserve([web(protocol=protocol)])))


def test_a_port_that_somebody_listens_on_is_a_conflict_that_names_them(lab: Lab) -> None:
    lab.listen(lab.host, 8080, address="127.0.0.1")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Conflict, match=rf"port 8080/tcp on 0\.0\.0\.0 is taken by .* \(process {os.getpid()}\)"):
        lab.on_host(lambda: ports.reserve([web(port=8081), web()]))
    assert len(os.listdir("/proc/self/fd")) == before, "what had been reserved before is given back"


def test_the_ipv6_loopback_is_listened_on_for_the_relay(lab: Lab) -> None:
    (found,) = lab.on_host(lambda: ports.reserve([web()]))
    with socket.socket(fileno=found.relay) as relay, lab.on_host(lambda: socket.socket(socket.AF_INET6)) as client:
        client.settimeout(1)
        client.connect(("::1", 8080))
        connection, peer = relay.accept()
        connection.close()
        assert peer[0] == "::1", "the connection waits to be accepted"
    os.close(found.held)


def test_a_container_with_both_families_holds_both_and_relays_once(lab: Lab) -> None:
    first, second = lab.on_host(lambda: ports.reserve([web(), web(address="fd00::5")]))
    assert (first.held >= 0, first.relay, second.held, second.relay >= 0) == (True, -1, -1, True), "one relay for [::1]"
    with lab.on_host(lambda: socket.socket(socket.AF_INET6)) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::", 8080))
    ports.release([first, second])


def test_a_port_on_one_address_leaves_the_others_free(lab: Lab) -> None:
    held = lab.on_host(lambda: ports.reserve([web("127.0.0.1"), web("192.0.2.1")]))
    assert [each.relay for each in held] == [-1, -1], "what was asked for 127.0.0.1 is not on [::1]"
    ports.release(held)


def test_the_ipv6_loopback_alone_can_be_asked_for(lab: Lab) -> None:
    (found,) = lab.on_host(lambda: ports.reserve([web("::1")]))
    assert (found.held, found.relay >= 0) == (-1, True)
    ports.release([found])


def test_an_address_that_the_host_does_not_have_is_refused(lab: Lab) -> None:
    with pytest.raises(Invalid, match="no such address"):
        lab.on_host(lambda: ports.reserve([web("192.0.2.77")]))


def test_port_0_is_replaced_by_a_free_one(lab: Lab) -> None:
    held = lab.on_host(lambda: ports.reserve([web(port=0)]))
    assert held[0].publication.host_port > 1023, "the kernel chose one"
    ports.release(held)


def test_a_held_port_answers_nobody(lab: Lab) -> None:
    held = lab.on_host(lambda: ports.reserve([web()]))
    assert lab.ask(lab.outside, "192.0.2.1", 8080) is None, "no connection gets stuck in a queue that nobody empties"
    ports.release(held)


def test_connections_of_a_former_owner_are_no_obstacle(lab: Lab) -> None:
    with lab.on_host(lambda: socket.socket()) as server, lab.on_host(lambda: socket.socket()) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 8080))
        server.listen()
        client.connect(("127.0.0.1", 8080))
        server.accept()[0].close()
        assert client.recv(1) == b"", "the server closed first, so its end lingers in TIME_WAIT"
    ports.release(lab.on_host(lambda: ports.reserve([web()])))
