"""Ports, the host's loopback, the metadata address, other networks and names, with the command line in a network of its own.

outside 192.0.2.9 ── 192.0.2.1 the host, where all commands run ── containers
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_lab import Host
from network_lab import Lab as Wires
from network_lab import command

from bayplan.kernel import netlink

PAGE = ("busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "netstat", "-tn")  # tells the client's address


class Site(Host):
    """The hostile image's state on a host of its own."""

    def __init__(self, root: Path, wires: Wires) -> None:
        self.wires = wires
        super().__init__(root)

    def argv(self, *words: str, **options: object) -> list[str]:
        inside = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.wires.host}"]
        return inside + super().argv(*words, **options)  # type: ignore[arg-type]

    def command(self, *words: str, status: int = 0) -> str:
        done = self.ran(*words)
        assert done.returncode == status, f"{words}: {done}"
        return (done.stderr if status else done.stdout).decode()

    def address(self, name: str, network: str) -> str:
        return self.command("inspect", "--format", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).strip()

    def reaches(self, name: str, address: str, port: int) -> bool:
        """Whether a container gets an answer there."""
        return b"answer" in self.ran("exec", name, "sh", "-c", f"echo | busybox timeout 1 nc -w 1 {address} {port}").stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    wires = Wires()
    made = Site(tmp_path_factory.mktemp("site"), wires)
    netlink.inside(wires.outside, lambda: command("ip", "address", "add", "169.254.169.254/32", "dev", "lo"))
    wires.on_host(lambda: command("ip", "route", "add", "169.254.169.254", "via", "192.0.2.9"))
    wires.on_host(lambda: command("ip", "route", "add", "default", "via", "192.0.2.9"))
    netlink.inside(wires.outside, lambda: command("ip", "route", "add", "172.16.0.0/12", "via", "192.0.2.1"))
    netlink.inside(wires.outside, lambda: command("ip", "route", "add", "10.0.0.0/8", "via", "192.0.2.1"))
    yield made
    for name in made.command("ps", "-aq").split():
        made.command("rm", "-f", name)
    made.ran("uninstall", "--force", "--volumes")
    wires.close()


@pytest.fixture(autouse=True)
def alone(site: Site) -> Iterator[None]:
    yield
    for name in site.command("ps", "-aq").split():
        site.command("rm", "-f", name)
    for name in ("front", "back", "closed"):
        site.ran("network", "rm", name)


def listen(site: Site, space: int, address: str, port: int) -> None:
    """Answer there; the socket is closed with the site."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = netlink.inside(space, lambda: socket.socket(family, socket.SOCK_STREAM))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen(16)
    site.wires.sockets.append(server)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                connection.sendall(b"answer")
                connection.close()
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()


def fetched(site: Site, space: int, address: str, port: int) -> str:
    """What a client in that namespace is told; nothing where it gets no connection."""
    with netlink.inside(space, lambda: socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)) as client:
        client.settimeout(0.7)
        try:
            client.connect((address, port))
            said = b""
            while chunk := client.recv(4096):
                said += chunk
        except OSError:
            return ""
        return said.decode(errors="replace")


def test_a_port_is_bound_as_asked_and_the_client_s_address_is_kept(site: Site) -> None:
    """moby#22054, CVE-2021-20199, CVE-2025-54388."""
    site.up("open", *PAGE, options=("-p", "8080:80"))
    site.up("local", *PAGE, options=("-p", "127.0.0.1:8081:80"))
    outside, here = site.wires.outside, site.wires.host
    assert "192.0.2.9:" in fetched(site, outside, "192.0.2.1", 8080), "reached from outside, by its own address"
    assert fetched(site, here, "127.0.0.1", 8081), "what is for the loopback is reached there"
    for address in ("192.0.2.1", "2001:db8::1"):
        assert not fetched(site, outside, address, 8081), f"and not from outside at {address}"
    for name in ("open", "local"):
        inside = site.command("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name).strip() or site.address(name, "default")
        assert not fetched(site, outside, inside, 80), f"nor does a route to {inside} lead around the published port"


def test_a_container_reaches_neither_the_host_s_loopback_nor_what_is_bound_to_it(site: Site) -> None:
    listen(site, site.wires.host, "127.0.0.1", 9999)
    listen(site, site.wires.host, "192.0.2.1", 9998)
    site.command("network", "create", "front")
    site.up("curious", options=("--network", "front"))
    gateway = site.inside("curious", "busybox", "ip", "route").split()[2]
    for address in ("127.0.0.1", gateway, "192.0.2.1", "127.0.0.2", "0.0.0.0"):
        assert not site.reaches("curious", address, 9999), f"{address} is not the host's loopback"
    assert site.reaches("curious", "192.0.2.1", 9998), "what listens on the host's own address is reached, so the test would see it"


def test_an_internal_network_leads_nowhere_and_asks_nobody(site: Site) -> None:
    """CVE-2024-29018: names asked on an internal network told the outside what was in them. The metadata address is outside."""
    listen(site, site.wires.outside, "169.254.169.254", 80)
    listen(site, site.wires.outside, "192.0.2.9", 81)
    queries: list[bytes] = []
    server = netlink.inside(site.wires.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("192.0.2.9", 53))
    site.wires.sockets.append(server)

    def collect() -> None:
        while True:
            try:
                queries.append(server.recv(512))
            except OSError:
                return

    threading.Thread(target=collect, daemon=True).start()
    site.command("network", "create", "--internal", "closed")
    site.command("network", "create", "front")
    site.up("inside", options=("--network", "closed", "--dns", "192.0.2.9"))
    site.up("beside", options=("--network", "front", "--dns", "192.0.2.9"))
    for address, port in (("169.254.169.254", 80), ("192.0.2.9", 81), ("192.0.2.1", 22)):
        assert not site.reaches("inside", address, port), f"{address} is not reached from an internal network"
    site.ran("exec", "inside", "busybox", "timeout", "2", "nslookup", "stolen.example.com")
    assert not any(b"stolen" in each for each in queries), "no name leaves it"
    site.ran("exec", "beside", "busybox", "timeout", "2", "nslookup", "asked.example.com")
    assert any(b"asked" in each for each in queries), "an ordinary network asks, so the test would see it"
    assert site.reaches("beside", "192.0.2.9", 81)


def test_networks_are_kept_apart(site: Site) -> None:
    for name in ("front", "back"):
        site.command("network", "create", name)
    site.up("target", "busybox", "nc", "-ll", "-p", "80", "-e", "/bin/echo", "answer", options=("--network", "back"))
    site.up("friend", options=("--network", "back"))
    site.up("stranger", options=("--network", "front"))
    address = site.address("target", "back")
    assert site.reaches("friend", address, 80), "within a network"
    assert not site.reaches("stranger", address, 80), "and not from another one"


def advertise(pid: int) -> None:
    """A router advertisement (RFC 4861, 4.2) of 2001:db8:bad::/64 and of oneself as the way out, from the container of process `pid`."""
    head = bytes((134, 0, 0, 0, 64, 0)) + (1800).to_bytes(2, "big") + bytes(8)
    prefix = bytes((3, 4, 64, 0xC0)) + (86400).to_bytes(4, "big") * 2 + bytes(4) + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
    with (
        open(f"/proc/{pid}/ns/net") as space,
        netlink.inside(space.fileno(), lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)) as raw,
    ):
        index = netlink.inside(space.fileno(), lambda: socket.if_nametoindex("eth0"))
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        for _ in range(3):
            raw.sendto(head + prefix, ("ff02::1", 0, 0, index))
            time.sleep(0.3)


def test_a_container_that_says_it_is_a_router_is_believed_by_nobody(site: Site) -> None:
    """CVE-2020-13401: the host, or a neighbour, would send its traffic through the container."""
    site.command("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "front")
    site.up("rogue", options=("--network", "front"))
    site.up("neighbour", options=("--network", "front"))
    advertise(site.first("rogue"))
    with open(f"/proc/{site.first('neighbour')}/ns/net") as space:
        for where, number in (("the host", site.wires.host), ("the neighbour", space.fileno())):
            routes = netlink.inside(number, lambda: command("ip", "-6", "route", "show"))
            addresses = netlink.inside(number, lambda: command("ip", "-6", "address", "show"))
            assert "proto ra" not in routes and "bad" not in routes + addresses, f"{where} has believed it: {routes}{addresses}"
        netlink.inside(space.fileno(), lambda: Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").write_text("2"))
        advertise(site.first("rogue"))
        assert "bad" in netlink.inside(space.fileno(), lambda: command("ip", "-6", "address", "show")), (
            "one that accepts them does, so it bites"
        )
