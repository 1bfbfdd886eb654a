"""What the tests of resources share: cgroups that go after the test, a load in one, hierarchies and disks for a test alone."""

from __future__ import annotations

import errno
import mmap
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from sandbox_lab import STATE

from bayplan.kernel import cgroups, linux
from bayplan.kernel.cgroups import Cgroup, Host
from bayplan.model.runtime import Resources

UNIFIED = "/sys/fs/cgroup/unified"  # the empty tree of version 2 beside version 1 (hybrid)


def hosts() -> list[Host]:
    """The host as it is, and the other version where its tree is there as well."""
    own = cgroups.observe_host()
    return [own, Host(2, (("", UNIFIED),))] if own.version == 1 and os.path.exists(f"{UNIFIED}/cgroup.procs") else [own]


@contextmanager
def limited(
    resources: Resources, *, host: Host | None = None, also: tuple[str, ...] = (), name: str = ""
) -> Iterator[tuple[Host, str, Cgroup]]:
    """A cgroup that is gone after the test, with whatever was in it."""
    host = host or cgroups.observe_host()
    name = name or f"{STATE}/{time.monotonic_ns()}"
    try:
        yield host, name, cgroups.create(host, name, resources, leaf="", also=also)
    finally:
        found = cgroups.find(host, name, leaf="")
        if found:
            cgroups.remove(found, leaf="")
        for _, point in host.mounts:
            with suppress(OSError):
                os.rmdir(f"{point}/{os.path.dirname(name)}")


@contextmanager
def load(cgroup: Cgroup, body: Callable[[], object]) -> Iterator[int]:
    """A process in `cgroup` that runs `body` again and again; its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            cgroups.join(cgroup)
            os.write(writer, b"x")
            while True:
                body()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1), "the load is in the cgroup"
    os.close(reader)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
        cgroups.kill(cgroup)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def inside(cgroup: Cgroup, body: Callable[[], int]) -> int:
    """What `body` returns (0 to 254) in a process of its own in `cgroup`; 255 where it raises."""
    pid = os.fork()
    if not pid:
        code = 255
        try:
            cgroups.join(cgroup)
            code = body()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def spin() -> None:
    for _ in range(100_000):
        pass


def file(cgroup: Cgroup, controller: str, name: str) -> str:
    directory = dict(cgroup.directories)[controller if cgroup.version == 1 else ""]
    return pathlib.Path(directory, name).read_text().strip()


def until(condition: Callable[[], bool], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {seconds} s"
        time.sleep(0.005)


def with_hierarchy(controller: str, directory: pathlib.Path, body: Callable[[Host], None]) -> None:
    """Run `body` where version 1's hierarchy of `controller` is mounted, for a process and a mount namespace of its own."""
    if cgroups.observe_host().version != 1:
        pytest.skip(f"{controller} has a hierarchy of its own on cgroup version 1 only")
    existed = _has_hierarchy(controller)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        said = b"skip"
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
            if controller not in dict(cgroups.observe_host().mounts):
                _mount_hierarchy(controller, directory)
            host = cgroups.observe_host()
            point = dict(host.mounts).get(controller)
            if point and not os.statvfs(point).f_flag & os.ST_RDONLY:
                body(host)
                said = b"done"
                if not existed:
                    _end_hierarchy(controller, directory)
        except BaseException:
            said = traceback.format_exc().encode()
        finally:
            os.write(writer, said)
            sys.stderr.flush()
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(pid, 0)
    if said == "skip":
        pytest.skip(f"this kernel has no {controller} controller for a hierarchy of its own, or others have it, read-only")
    assert said == "done", said


def _mount_hierarchy(controller: str, directory: pathlib.Path) -> None:
    for _ in range(20):  # busy while cgroups that had it in the tree of version 2 are being cleared
        try:
            linux.mount("cgroup", str(directory), "cgroup", 0, controller)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
        time.sleep(0.1)


def _has_hierarchy(controller: str) -> bool:
    rows = (line.split() for line in pathlib.Path("/proc/cgroups").read_text().splitlines())
    return any(row[0] == controller and row[1] != "0" for row in rows)


def _end_hierarchy(controller: str, directory: pathlib.Path) -> None:
    # an unmounted hierarchy goes after a moment, or stays if the kernel had not yet cleared a cgroup that was removed from it
    time.sleep(0.2)
    linux.umount(str(directory))
    for _ in range(5):
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if not _has_hierarchy(controller):
                return
            time.sleep(0.01)
        with suppress(OSError):  # or it is another's now
            linux.mount("cgroup", str(directory), "cgroup", 0, controller)
            linux.umount(str(directory))


@contextmanager
def disk(directory: pathlib.Path) -> Iterator[tuple[str, int, int]]:
    """A block device of 16 MiB on a file: its path and numbers."""
    backing = directory / "disk"
    backing.write_bytes(bytes(16 << 20))
    try:
        made = subprocess.run(["losetup", "--find", "--show", str(backing)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device can be made here: {getattr(error, 'stderr', error)}")
    path = made.stdout.strip()
    number = os.stat(path).st_rdev
    try:
        yield path, os.major(number), os.minor(number)
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def transfer(path: str, size: int, *, writing: bool, block: int) -> int:
    """Move `size` bytes past the page cache, since version 1 throttles nothing else, with four requests under way at any time.

    Hundredths of a second that it took, 254 for all that is longer: what `inside` can hand back. The first fifth, which has the
    kernel's first slice of 100 ms for nothing, is taken to be as fast as the rest.
    """
    done: list[float] = []

    def move(begin: int) -> None:
        buffer = mmap.mmap(-1, block)  # aligned, as O_DIRECT wants it
        for at in range(begin, size, 4 * block):
            moved = os.pwritev(fd, [buffer], at) if writing else os.preadv(fd, [buffer], at)
            assert moved == block, "a whole block"
            done.append(time.monotonic())

    fd = os.open(path, (os.O_WRONLY if writing else os.O_RDONLY) | os.O_DIRECT)
    threads = [threading.Thread(target=move, args=(number * block,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    done.sort()
    fifth = len(done) // 5
    return min(round((done[-1] - done[fifth - 1]) * 100 * len(done) / (len(done) - fifth)), 254)
