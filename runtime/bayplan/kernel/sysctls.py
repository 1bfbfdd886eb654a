"""Kernel settings beneath /proc/sys/net of the network namespace that the caller is in."""

from __future__ import annotations

import os

from bayplan.errors import Kernel


def write(name: str, value: str) -> None:
    """Set `name` ("net/ipv4/ip_forward") unless it has the value already, so that a read-only /proc/sys that is right will do."""
    if read(name) == value:
        return
    path = f"/proc/sys/{name}"
    try:
        _put(path, value)
    except OSError as error:
        raise Kernel(f"setting {name.replace('/', '.')} to {value}", error) from error


def write_ipv6(name: str, value: str) -> None:
    """Set a setting of IPv6; a kernel without IPv6 has nothing to set."""
    if has_ipv6():
        write(name, value)


def enable_forwarding(*, ipv6: bool) -> None:
    """Make the host pass packets on between its links, as bridge networks need it; raises Kernel.

    A host that forwards IPv6 stops believing router advertisements, by which it may have its own addresses: those links are told to go
    on (accept_ra 2, Documentation/networking/ip-sysctl).
    """
    write(_FORWARD, "1")
    if not ipv6 or read(_FORWARD6) == "1":
        return
    for link in os.listdir("/proc/sys/net/ipv6/conf"):
        if read(f"net/ipv6/conf/{link}/accept_ra") == "1":
            write(f"net/ipv6/conf/{link}/accept_ra", "2")
    write(_FORWARD6, "1")


def forwarding_drift(*, ipv6: bool) -> tuple[str, ...]:
    """Return noun phrases for what enable_forwarding would change."""
    off = [] if read(_FORWARD) == "1" else ["ip_forward off"]
    return (*off, *(["IPv6 forwarding off"] if ipv6 and read(_FORWARD6) != "1" else []))


_FORWARD, _FORWARD6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


def has_ipv6() -> bool:
    return os.path.exists("/proc/sys/net/ipv6")


def read(name: str) -> str:
    """Return the value without its line's end, "" if there is no such setting."""
    try:
        descriptor = os.open(f"/proc/sys/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, 4096).decode().strip()
    finally:
        os.close(descriptor)


def _put(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
