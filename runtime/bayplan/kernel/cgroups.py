"""Control groups of both versions: make, limit, measure, find, remove. Names are `STATE/ID`, beneath each root.

Version 2 where /sys/fs/cgroup is one; version 1 otherwise, also beside an empty version 2 tree (hybrid). On version 2 a
container's cgroup has two leaves, `monitor` and `container`, since a cgroup with controllers may hold no processes
itself. Version 1 uses only the hierarchies that a container needs: each one joined costs the kernel a grace period.
"""

from __future__ import annotations

import errno
import os
import time

from bayplan.errors import Kernel, Unavailable
from bayplan.kernel import limiting, limits, linux
from bayplan.kernel.cgroup_files import read, write
from bayplan.model.runtime import Resources
from bayplan.model.value import NamedTuple

ROOT = "/sys/fs/cgroup"
_ALWAYS_V1 = ("memory", "cpu", "cpuacct", "pids", "devices")
_V2 = ("cpu", "memory", "pids", "cpuset", "io")
_REMOVE_SECONDS = 5.0


class Cgroup(NamedTuple):
    """A container's cgroup: on version 1 (controller, directory) pairs, on version 2 one pair of "" and the leaf."""

    version: int
    directories: tuple[tuple[str, str], ...]


class Host(NamedTuple):
    """What the host has: the version, and where each controller's hierarchy is mounted ("" on version 2)."""

    version: int
    mounts: tuple[tuple[str, str], ...]


def observe_host(root: str = ROOT) -> Host:
    """What is mounted at `root`. Unavailable if nothing is."""
    try:
        fd = os.open(root, linux.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unavailable(f"{root} does not exist; mount the cgroup file system there") from error
    magic = linux.file_system_magic(fd)
    os.close(fd)
    if magic == linux.CGROUP2_MAGIC:
        return Host(2, (("", root),))
    mounts = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, tail = line.partition(" - ")
            if tail.startswith("cgroup "):
                point = fields.split(" ")[4]
                mounts += [(name, point) for name in tail.split(" ")[2].strip().split(",") if name not in ("rw", "ro")]
    return Host(1, tuple(mounts))


def create(host: Host, name: str, resources: Resources, *, base: str = "", leaf: str = "container", also: tuple[str, ...] = ()) -> Cgroup:
    """Make the cgroup `name` (or find it) with `resources` as its limits. On version 2 the directory `base`, if given, stands for
    `name`, and the processes live in its `leaf`; with "" in itself. `also` are hierarchies of version 1 to be in where the host has
    them, such as "freezer".

    Invalid for what no kernel takes; Unavailable names the field, and what this host lacks for it; Kernel a value that the kernel
    refuses. Directories that were made stay.
    """
    limits.check(resources)
    settings = _settings(host, resources)
    if host.version == 2:
        cgroup = Cgroup(2, (("", _leaf(host, name, base, leaf)),))
        _make_v2(host, cgroup, settings)
    else:
        cgroup = Cgroup(1, tuple(_make_v1(host, name, settings, also)))
    limiting.apply(cgroup, settings, resources)
    return cgroup


def _settings(host: Host, resources: Resources) -> list[limits.Setting]:
    return limits.settings_v2(resources) if host.version == 2 else limits.settings_v1(resources)


def _leaf(host: Host, name: str, base: str, leaf: str) -> str:
    directory = base or f"{host.mounts[0][1]}/{name.strip('/')}"
    return f"{directory}/{leaf}" if leaf else directory


def prepare(host: Host, name: str) -> None:
    """Make the directories that `create` will find. On version 1 a mkdir waits while any process on the host is being moved."""
    try:
        for controller, point in host.mounts if host.version == 1 else ():
            if controller in _ALWAYS_V1:
                os.makedirs(f"{point}/{name}", exist_ok=True)
    except OSError as error:
        raise Kernel("making the container's cgroup", error) from error


def find(host: Host, name: str, *, base: str = "", leaf: str = "container") -> Cgroup | None:
    """The cgroup that `create` made, or on version 1 `prepare`, if any of it is there."""
    if host.version == 2:
        directory = _leaf(host, name, base, leaf)
        return Cgroup(2, (("", directory),)) if os.path.isdir(directory) else None
    name = name.strip("/")
    there = tuple((c, f"{point}/{name}") for c, point in host.mounts if os.path.isdir(f"{point}/{name}"))
    return Cgroup(1, there) if there else None


def names(host: Host, state: str) -> frozenset[str]:
    """The last parts of all cgroups `state/...` that exist in any hierarchy."""
    found: set[str] = set()
    for _, point in host.mounts:
        try:
            found.update(entry.name for entry in os.scandir(f"{point}/{state}") if entry.is_dir())
        except FileNotFoundError:
            continue
    return frozenset(found)


def join(cgroup: Cgroup, pid: int = 0) -> None:
    """Move a process (this one by default) into it. A process that is there already is not moved again."""
    own = _memberships() if not pid else frozenset()
    for directory in directories(cgroup):
        if not any(directory.endswith(path) for path in own if path != "/"):
            write(f"{directory}/cgroup.procs", str(pid), "joining the cgroup")


def beside(cgroup: Cgroup, pid: int) -> Cgroup:
    """Where a further process of the container may be whose first process is `pid`.

    On version 2 a cgroup that has handed its controllers on, as an init makes it, holds no processes: then where the first process is.
    Unavailable where that is outside of the container's.
    """
    if cgroup.version == 1:
        return cgroup
    directory = cgroup.directories[0][1]
    if not (read(f"{directory}/cgroup.subtree_control") or "").strip():
        return cgroup
    lines = (read(f"/proc/{pid}/cgroup") or "").splitlines()
    place = next((ROOT + line[3:] for line in lines if line.startswith("0::")), directory)
    if not f"{place}/".startswith(f"{directory}/"):
        raise Unavailable(f"executing in the container: its first process is in {place}, outside of {directory}")
    return Cgroup(2, (("", place),))


def join_all(source: Cgroup, target: Cgroup) -> None:
    """Move what is in `source` into `target` as well, also what is born meanwhile; one that ends meanwhile is no error."""
    moved: set[int] = set()
    while fresh := [pid for pid in pids(source) if pid not in moved]:
        for pid in fresh:
            try:
                join(target, pid)
            except Kernel as error:
                if error.errno != errno.ESRCH:
                    raise
        moved.update(fresh)


def adopt(host: Host, name: str, pid: int) -> None:
    """Move a process into the cgroup `name`, which has no limits and is made where it is missing. One that is gone is no error.

    The first move in a while waits 10 ms for the kernel (a grace period); those that follow at once do not.
    """
    points = [f"{point}/{name}" for controller, point in host.mounts if host.version == 2 or controller in _ALWAYS_V1]
    for directory in dict.fromkeys(points):
        os.makedirs(directory, exist_ok=True)
        try:
            write(f"{directory}/cgroup.procs", str(pid), "leaving the session's cgroup")
        except Kernel as error:
            if error.errno != errno.ESRCH:
                raise


def update(host: Host, cgroup: Cgroup, name: str, resources: Resources) -> Cgroup:
    """Change a live container's limits in place, and nothing that `resources` says nothing of. A hierarchy of version 1 that it was not
    in yet, it joins.

    Raises as `create` does. What was written before a value that the kernel refuses stays so.
    """
    resources = limiting.complete(cgroup, resources)
    limits.check(resources)
    settings = _settings(host, resources)
    if host.version == 2:
        _make_v2(host, cgroup, settings)
    else:
        wanted = tuple(_make_v1(host, name, settings, ()))
        fresh = Cgroup(1, tuple(pair for pair in wanted if pair not in cgroup.directories))
        if fresh.directories:
            join_all(cgroup, fresh)
        cgroup = Cgroup(1, tuple(dict.fromkeys((*cgroup.directories, *wanted))))
    limiting.apply(cgroup, settings, resources)
    return cgroup


def pids(cgroup: Cgroup) -> tuple[int, ...]:
    """The processes in it, its children's included."""
    found: dict[int, None] = {}
    for path, _, _ in os.walk(directories(cgroup)[0]):
        found.update((int(pid), None) for pid in (read(f"{path}/cgroup.procs") or "").split())
    return tuple(found)


def oom_path(cgroup: Cgroup) -> str:
    """The file whose `oom_kill` line counts the processes killed for want of memory; "" if nothing counts them."""
    if cgroup.version == 2:
        return cgroup.directories[0][1] + "/memory.events"
    directory = dict(cgroup.directories).get("memory")
    return f"{directory}/memory.oom_control" if directory else ""


def kill(cgroup: Cgroup) -> None:
    """Kill whatever is in it, also what forks meanwhile and what is frozen; does not wait for their end."""
    killer = cgroup.directories[0][1] + "/cgroup.kill"
    if cgroup.version == 2 and os.path.exists(killer):  # Linux 5.14
        write(killer, "1", "killing the container's processes")
        return
    for _ in range(100):
        remaining = pids(cgroup)
        for pid in remaining:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        if not remaining:
            return
        _thaw_v1(cgroup)
        time.sleep(0.01)


def _thaw_v1(cgroup: Cgroup) -> None:
    # what the freezer of version 1 has frozen dies when it is thawed, not before; on version 2 it dies frozen
    freezer = dict(cgroup.directories).get("freezer", "")
    for path, _, _ in os.walk(freezer) if freezer else ():
        if read(f"{path}/freezer.state") != "THAWED\n":
            write(f"{path}/freezer.state", "THAWED", "thawing the container to kill it")


def remove(cgroup: Cgroup, *, leaf: str = "container") -> None:
    """Kill what is left in it and remove it; what is gone already is fine. Kernel EBUSY if it will not die in 5 s.

    On version 2, with the `leaf` that `create` had: its parent goes with it, unless that is "".
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    if pids(cgroup):
        kill(cgroup)
    for directory in directories(cgroup):
        _remove_tree(directory, deadline)
    if cgroup.version == 2 and leaf:
        parent = os.path.dirname(cgroup.directories[0][1])
        for path in (f"{parent}/monitor", parent):
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EBUSY):  # the caller itself may be in `monitor`
                    raise Kernel("removing the cgroup", error) from error


def _remove_tree(directory: str, deadline: float) -> None:
    while True:
        try:
            for path, _, _ in os.walk(directory, topdown=False):
                os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise Kernel("removing the cgroup", error) from error
        time.sleep(0.002)


def _make_v1(host: Host, name: str, settings: list[limits.Setting], also: tuple[str, ...]) -> list[tuple[str, str]]:
    points, name = dict(host.mounts), name.strip("/")
    for setting in settings:
        if setting.controller not in points:
            raise Unavailable(limiting.missing(setting))
    made = []
    for controller in dict.fromkeys((*_ALWAYS_V1, *(setting.controller for setting in settings), *also)):
        if controller in points:
            directory = f"{points[controller]}/{name}"
            os.makedirs(directory, exist_ok=True)
            if points[controller] == points.get("cpuset"):
                _inherit_cpuset(points[controller], name)
            made.append((controller, directory))
    return made


def _inherit_cpuset(point: str, name: str) -> None:
    # a new cpuset of version 1 is empty, and no process may enter it so
    path = point
    for part in name.split("/"):
        parent, path = path, f"{path}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not (read(f"{path}/{file}") or "").strip():
                write(f"{path}/{file}", (read(f"{parent}/{file}") or "").strip(), "setting up the cpuset")


def _make_v2(host: Host, cgroup: Cgroup, settings: list[limits.Setting]) -> None:
    """Make it and its parents, each of these handing on the controllers that it has."""
    root, directory = host.mounts[0][1], cgroup.directories[0][1]
    os.makedirs(directory, exist_ok=True)
    asked = dict.fromkeys((*_V2, *(setting.controller for setting in settings)))
    path = root
    for part in ["", *os.path.relpath(directory, root).split("/")[:-1]]:
        path = f"{path}/{part}" if part else path
        offered = (read(f"{path}/cgroup.controllers") or "").split()
        enabled = (read(f"{path}/cgroup.subtree_control") or "").split()
        for name in asked:
            if name in offered and name not in enabled:
                try:
                    write(f"{path}/cgroup.subtree_control", f"+{name}", "enabling controllers")
                except Kernel:
                    continue  # not ours to give (a parent with processes in it): `limiting` says so where it matters


def _memberships() -> frozenset[str]:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return frozenset(line.rstrip("\n").split(":", 2)[2] for line in file)


def directories(cgroup: Cgroup) -> tuple[str, ...]:
    """Where it is in each hierarchy; some have several controllers."""
    return tuple(dict.fromkeys(directory for _, directory in cgroup.directories))
