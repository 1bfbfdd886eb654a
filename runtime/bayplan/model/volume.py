"""A volume as it is declared: the Compose Specification's volume."""

from __future__ import annotations

from typing import NamedTuple


class Volume(NamedTuple):
    """driver is `local`; options type, o and device name a file system that is mounted inside containers only."""

    name: str
    driver: str = "local"
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    project: str = ""
