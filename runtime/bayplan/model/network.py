"""A network as it is declared: the Compose Specification's network."""

from __future__ import annotations

from typing import NamedTuple


class Network(NamedTuple):
    """subnet and gateway "" are chosen when the network is made. driver: bridge (host and none are not declared)."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    enable_ipv6: bool = False
    internal: bool = False
    mtu: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    project: str = ""
