"""A host, a neighbour outside and containers, each in a network namespace of its own; nothing of the machine's own is touched.

    outside 192.0.2.9 ── eth0 192.0.2.1 host ── bridge 10.89.0.1 ── containers 10.89.0.N
                                             └─ bridge 10.89.1.1 ── containers 10.89.1.N

The neighbour has a route to the containers through the host, as a hostile or a curious one would.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from bayplan.kernel import firewall, links, linux, netlink, sysctls

STATE = "1a2b3c4d"
T = TypeVar("T")


def new_namespace() -> int:
    """Return a descriptor of a new network namespace, which lives as long as it or a socket in it is open."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    linux.unshare(linux.CLONE_NEWNET)
    try:
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        linux.setns(home, linux.CLONE_NEWNET)
        os.close(home)


def command(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Lab:
    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.spaces: list[int] = []
        self.host, self.outside = self.new_space(), self.new_space()
        self.containers: dict[str, int] = {}
        self.on_host(self._wire)

    def new_space(self) -> int:
        self.spaces.append(new_namespace())
        return self.spaces[-1]

    def _wire(self) -> None:
        command("ip", "link", "set", "lo", "up")
        command("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{os.getpid()}/fd/{self.outside}")
        for family, address in (("-4", "192.0.2.1/24"), ("-6", "2001:db8::1/64")):
            command("ip", family, "address", "add", address, "dev", "eth0", *(["nodad"] if family == "-6" else []))
        sysctls.write("net/ipv6/conf/eth0/accept_dad", "0")
        command("ip", "link", "set", "eth0", "up")
        sysctls.write("net/ipv4/ip_forward", "1")
        sysctls.write("net/ipv6/conf/all/forwarding", "1")
        netlink.inside(self.outside, self._wire_outside)

    @staticmethod
    def _wire_outside() -> None:
        command("ip", "link", "set", "lo", "up")
        command("ip", "address", "add", "192.0.2.9/24", "dev", "eth0")
        command("ip", "address", "add", "2001:db8::9/64", "dev", "eth0", "nodad")
        sysctls.write("net/ipv6/conf/eth0/accept_dad", "0")
        command("ip", "link", "set", "eth0", "up")
        command("ip", "route", "add", "10.89.0.0/16", "via", "192.0.2.1")
        command("ip", "route", "add", "fd00:89::/32", "via", "2001:db8::1")

    def on_host(self, action: Callable[[], T]) -> T:
        return netlink.inside(self.host, action)

    def network(self, number: int, *, ipv6: bool = False, internal: bool = False) -> firewall.Bridge:
        """Make a bridge; the caller installs the firewall for it."""
        subnet6 = f"fd00:89:{number}::/64" if ipv6 else None
        bridge = firewall.Bridge(f"bp1a2b3cb{number}", f"10.89.{number}.0/24", subnet6, internal)
        gateway6 = f"fd00:89:{number}::1/64" if ipv6 else ""
        self.on_host(lambda: links.install_bridge(links.BridgeLink(bridge.name, f"10.89.{number}.1/24", gateway6)))
        return bridge

    def container(self, bridge: firewall.Bridge, number: int) -> int:
        """Attach a container, with .`number` as the last part of its addresses, and return its namespace."""
        prefix = bridge.subnet4.rpartition(".")[0]
        prefix6 = (bridge.subnet6 or "").partition("/")[0]
        name = f"bp1a2b3cv{prefix.rpartition('.')[2]}-{number}"
        space = self.new_space()
        ipv6, gateway6 = (f"{prefix6}{number}/64", f"{prefix6}1") if prefix6 else ("", "")
        gateways = ("", "") if bridge.internal else (f"{prefix}.1", gateway6)
        mac = f"02:42:0a:59:{int(prefix.rpartition('.')[2]):02x}:{number:02x}"
        endpoint = links.Attachment(bridge.name, name, "eth0", mac, f"{prefix}.{number}/24", ipv6, *gateways)
        self.on_host(lambda: links.attach([endpoint], netns=space))
        return space

    def listen(self, space: int, port: int, *, address: str = "", udp: bool = False) -> None:
        """Answer on that port with one's own address and the client's."""
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = netlink.inside(space, lambda: socket.socket(family, kind))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        self.sockets.append(server)
        if not udp:
            server.listen(16)
        threading.Thread(target=_echo if udp else _serve, args=(server,), daemon=True).start()

    def ask(self, space: int, address: str, port: int, *, udp: bool = False, source: str = "") -> str | None:
        """Return "CLIENT SERVER" as the server saw them, "refused", or None if nothing comes back.

        A first packet may get lost on a link that is just coming up, and TCP would repeat it after a second only: we ask twice.
        """
        wanted = (space, address, port)
        return self._ask(*wanted, udp=udp, source=source) or self._ask(*wanted, udp=udp, source=source)

    def _ask(self, space: int, address: str, port: int, *, udp: bool, source: str) -> str | None:
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netlink.inside(space, lambda: socket.socket(family, kind)) as client:
            client.settimeout(0.6)
            try:
                if source:
                    client.bind((source, 0))
                client.connect((address, port))
                client.send(b"?")
                return client.recv(100).decode()
            except ConnectionRefusedError:
                return "refused"
            except OSError:
                return None

    def udp_client(self, space: int, address: str, port: int) -> socket.socket:
        client = netlink.inside(space, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client.settimeout(1)
        client.connect((address, port))
        return client

    def route_loopback_to_host(self, space: int, *, via: str) -> None:
        """Make the namespace send what goes to 127.0.0.1 out to the host."""

        def reroute() -> None:
            for name in ("all", "eth0"):
                sysctls.write(f"net/ipv4/conf/{name}/route_localnet", "1")
            command("ip", "rule", "add", "pref", "1", "to", "127.0.0.1", "lookup", "99")
            command("ip", "rule", "add", "pref", "2", "lookup", "local")
            command("ip", "rule", "delete", "pref", "0")
            command("ip", "route", "replace", "127.0.0.1", "via", via, "dev", "eth0", "table", "99")

        netlink.inside(space, reroute)

    def default_route(self, space: int, gateway: str) -> None:
        netlink.inside(space, lambda: command("ip", "route", "add", "default", "via", gateway))

    def silence(self, space: int) -> None:
        netlink.inside(space, lambda: command("ip", "link", "set", "eth0", "down"))

    def close(self) -> None:
        for each in self.sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for space in self.spaces:
            os.close(space)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, client = server.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.sendall(f"{client[0]} {connection.getsockname()[0]}".encode())


def _echo(server: socket.socket) -> None:
    while True:
        try:
            _, client = server.recvfrom(100)
        except OSError:
            return
        if client is None:  # shut down
            return
        with suppress(OSError):
            server.sendto(f"{client[0]} {client[1]}".encode(), client)
