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
