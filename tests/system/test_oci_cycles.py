"""Containers started and stopped again and again, eight at a time: nothing is left of them.

`CYCLES=10000` for the number that a release is tried with; half of them by bayplan-oci, half by bayplan.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import cli_lab
import oci_lab
import pytest
from oci_lab import CGROUPS

from bayplan.engine.state import open_state

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/busybox").exists(), reason="needs root and busybox-static"),
    pytest.mark.timeout(3600 * 4),
]
CYCLES = int(os.environ.get("CYCLES", "200"))
AT_ONCE = 8
# made once, and kept: the parent of the cgroups, filters that were compiled, caches of the records
KEPT = ("@seccomp", "filters", "db.sqlite-wal", "db.sqlite-shm", "db.sqlite")


@pytest.fixture
def oci(tmp_path: Path) -> Iterator[oci_lab.Lab]:
    with oci_lab.lab(tmp_path) as found:
        yield found


@pytest.fixture
def host(tmp_path: Path) -> Iterator[cli_lab.Lab]:
    with cli_lab.lab(tmp_path) as found:
        yield found


def test_nothing_is_left_of_many_bundles(oci: oci_lab.Lab) -> None:
    free: Queue[Path] = Queue()
    for number in range(AT_ONCE):
        free.put(oci.bundle("sh", "-c", f"echo b{number}; exit 3", name=f"b{number}", change=_with_filter()))

    def cycle(number: int) -> None:
        bundle = free.get()
        done = oci.run("run", "--bundle", str(bundle), f"c{number}")
        assert (done.returncode, done.stdout) == (3, f"{bundle.name}\n"), f"cycle {number}: {done}"
        free.put(bundle)

    _cycles(cycle, Place(oci.directory, oci.cgroup, "none"))


def test_nothing_is_left_of_many_containers(host: cli_lab.Lab) -> None:
    def cycle(number: int) -> None:
        done = host.run("run", "--rm", cli_lab.IMAGE, "sh", "-c", f"echo {number}; exit 3")
        assert (done.returncode, done.stdout) == (3, f"{number}\n"), f"cycle {number}: {done}"

    state = open_state(str(host.root))
    place = Place(host.directory, f"bayplan-{state.id}", f"bp{state.id[:6]}")
    state.records.close()
    _cycles(cycle, place)


def _with_filter() -> oci_lab.Json:
    rule = {"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}
    return {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}}


class Place(NamedTuple):
    """Where all that a container makes is: a directory, a cgroup, and interfaces whose names begin so."""

    directory: Path
    cgroup: str
    interfaces: str


def _cycles(cycle: Callable[[int], None], place: Place) -> None:
    """Half of all cycles, after enough of them that everything has been there once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(cycle, range(AT_ONCE * 2)))
        before = _settled(place)
        numbers = iter(range(AT_ONCE * 2, AT_ONCE * 2 + CYCLES // 2))
        list(pool.map(cycle, numbers))
        deadline = time.monotonic() + 20
        after = _settled(place)
        while after != before and time.monotonic() < deadline:  # the last monitor may be on its way out
            time.sleep(0.1)
            after = _settled(place)
    for kind, there in after.items():
        assert there <= before[kind], f"{kind} that are left: {sorted(there - before[kind])[:9]}"


def _settled(place: Place) -> dict[str, frozenset[str]]:
    """All that a container could leave."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "mounts": frozenset(line for line in mounts if str(place.directory) in line),
        "interfaces": frozenset(name for name in (line.split()[1] for line in links) if name.startswith(place.interfaces)),
        "cgroups": frozenset(_cgroups(place.cgroup)),
        "descriptors": frozenset(os.listdir("/proc/self/fd")[:-1]),
        "processes": frozenset(_processes(place.directory)),
        "files": frozenset(_files(place.directory)),
    }


def _cgroups(name: str) -> Iterator[str]:
    for hierarchy in {CGROUPS, *CGROUPS.glob("*")}:
        yield from (str(path) for path in hierarchy.glob(f"{name}/*") if path.is_dir())


def _processes(directory: Path) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, root = (entry / "cmdline").read_bytes(), os.readlink(entry / "root")
        except OSError:
            continue
        if (str(directory).encode() in command or root.startswith(str(directory))) and int(entry.name) != os.getpid():
            yield f"{entry.name} {command!r}"


def _files(directory: Path) -> Iterator[str]:
    for path, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name not in KEPT]
        yield from (f"{path}/{name}" for name in (*directories, *files) if name not in KEPT)
