from __future__ import annotations

import os
from typing import NamedTuple


class Cgroup(NamedTuple):
    version: int
    directories: tuple[tuple[str, str], ...]


def join(cgroup: Cgroup) -> None:
    for _, d in cgroup.directories:
        fd = os.open(d + "/cgroup.procs", os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)
