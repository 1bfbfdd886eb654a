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
from bayplan.kernel import limits, linux
from bayplan.model.runtime import DeviceRule, Resources
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


class Usage(NamedTuple):
    """Bytes (page cache that could be dropped not counted), nanoseconds, tasks; None where nothing counts it."""

    memory: int | None
    memory_limit: int | None
    cpu_nanoseconds: int | None
    pids: int | None


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


def create(host: Host, name: str, resources: Resources, *, base: str = "") -> Cgroup:
    """Make the cgroup `name` (or find it) with `resources` as its limits, on version 2 beneath `base` if given.

    Unavailable names a controller that a limit needs and the host lacks; Kernel a value that the kernel refuses.
    """
    limits.check(resources)
    if host.version == 2:
        parent = base or f"{ROOT}/{name}"
        _make_v2(parent, host.mounts[0][1])
        cgroup = Cgroup(2, (("", f"{parent}/container"),))
        os.makedirs(cgroup.directories[0][1], exist_ok=True)
    else:
        cgroup = Cgroup(1, tuple(_make_v1(host, name, resources)))
    _limit(cgroup, resources)
    return cgroup


def prepare(host: Host, name: str) -> None:
    """Make the directories that `create` will find. On version 1 a mkdir waits while any process on the host is being moved."""
    try:
        for controller, point in host.mounts if host.version == 1 else ():
            if controller in _ALWAYS_V1:
                os.makedirs(f"{point}/{name}", exist_ok=True)
    except OSError as error:
        raise Kernel("making the container's cgroup", error) from error


def find(host: Host, name: str, *, base: str = "") -> Cgroup | None:
    """The cgroup that `create` made, or on version 1 `prepare`, if any of it is there."""
    if host.version == 2:
        leaf = f"{base or ROOT + '/' + name}/container"
        return Cgroup(2, (("", leaf),)) if os.path.isdir(leaf) else None
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
    for _, directory in _distinct(cgroup):
        if not any(directory.endswith(path) for path in own if path != "/"):
            _write(f"{directory}/cgroup.procs", str(pid), "joining the cgroup")


def adopt(host: Host, name: str, pid: int) -> None:
    """Move a process into the cgroup `name`, which has no limits and is made where it is missing. One that is gone is no error.

    The first move in a while waits 10 ms for the kernel (a grace period); those that follow at once do not.
    """
    directories = [f"{point}/{name}" for controller, point in host.mounts if host.version == 2 or controller in _ALWAYS_V1]
    for directory in dict.fromkeys(directories):
        os.makedirs(directory, exist_ok=True)
        try:
            _write(f"{directory}/cgroup.procs", str(pid), "leaving the session's cgroup")
        except Kernel as error:
            if error.errno != errno.ESRCH:
                raise


def update(host: Host, cgroup: Cgroup, name: str, resources: Resources) -> Cgroup:
    """Change a live container's limits in place. A hierarchy of version 1 that it was not in yet, it joins."""
    limits.check(resources)
    if host.version == 1:
        wanted = tuple(_make_v1(host, name, resources))
        fresh = Cgroup(1, tuple(pair for pair in wanted if pair not in cgroup.directories))
        for pid in pids(cgroup) if fresh.directories else ():
            join(fresh, pid)
        cgroup = Cgroup(1, tuple(dict.fromkeys((*cgroup.directories, *wanted))))
    _limit(cgroup, resources)
    return cgroup


def pids(cgroup: Cgroup) -> tuple[int, ...]:
    """The processes in it, its children's included."""
    found: dict[int, None] = {}
    for _, directory in _distinct(cgroup)[:1]:
        for path, _, _ in os.walk(directory):
            found.update((int(pid), None) for pid in (_read(f"{path}/cgroup.procs") or "").split())
    return tuple(found)


def usage(cgroup: Cgroup) -> Usage:
    """What it uses now."""
    at = dict(cgroup.directories)
    if cgroup.version == 2:
        leaf = at[""]
        cpu = _entry(f"{leaf}/cpu.stat", "usage_usec")
        memory = _minus(_number(f"{leaf}/memory.current"), _entry(f"{leaf}/memory.stat", "inactive_file"))
        limit = _number(f"{leaf}/memory.max")
        return Usage(memory, limit, None if cpu is None else cpu * 1000, _number(f"{leaf}/pids.current"))
    directory = at.get("memory", "")
    inactive = _entry(f"{directory}/memory.stat", "total_inactive_file")
    memory = _minus(_number(f"{directory}/memory.usage_in_bytes"), inactive)
    limit = _number(f"{directory}/memory.limit_in_bytes")
    limit = None if limit is not None and limit >= 1 << 62 else limit
    cpu = _number(f"{at.get('cpuacct', '')}/cpuacct.usage")
    return Usage(memory, limit, cpu, _number(f"{at.get('pids', '')}/pids.current"))


def oom_path(cgroup: Cgroup) -> str:
    """The file whose `oom_kill` line counts the processes killed for want of memory; "" if nothing counts them."""
    if cgroup.version == 2:
        return cgroup.directories[0][1] + "/memory.events"
    directory = dict(cgroup.directories).get("memory")
    return f"{directory}/memory.oom_control" if directory else ""


def kill(cgroup: Cgroup) -> None:
    """Kill whatever is in it, also what forks meanwhile; does not wait for their end."""
    killer = cgroup.directories[0][1] + "/cgroup.kill"
    if cgroup.version == 2 and os.path.exists(killer):  # Linux 5.14
        _write(killer, "1", "killing the container's processes")
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
        time.sleep(0.01)


def remove(cgroup: Cgroup) -> None:
    """Kill what is left in it and remove it; what is gone already is fine. Kernel EBUSY if it will not die in 5 s."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    if pids(cgroup):
        kill(cgroup)
    for _, directory in _distinct(cgroup):
        _remove_tree(directory, deadline)
    if cgroup.version == 2:
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


def _make_v1(host: Host, name: str, resources: Resources) -> list[tuple[str, str]]:
    asked = {setting.controller for setting in limits.settings_v1(resources)}
    points = dict(host.mounts)
    for controller in asked - points.keys():
        raise Unavailable(_missing(controller))
    made = []
    for controller in (*_ALWAYS_V1, *(c for c in ("cpuset",) if c in asked)):
        if controller in points:
            directory = f"{points[controller]}/{name}"
            os.makedirs(directory, exist_ok=True)
            if controller == "cpuset":
                _inherit_cpuset(points[controller], name)
            made.append((controller, directory))
    return made


def _inherit_cpuset(point: str, name: str) -> None:
    # a new cpuset of version 1 is empty, and no process may enter it so
    path = point
    for part in name.split("/"):
        parent, path = path, f"{path}/{part}"
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not (_read(f"{path}/{file}") or "").strip():
                _write(f"{path}/{file}", (_read(f"{parent}/{file}") or "").strip(), "setting up the cpuset")


def _make_v2(directory: str, root: str) -> None:
    """Make it and its parents, each handing on the controllers that it has."""
    os.makedirs(directory, exist_ok=True)
    path = root
    for part in ["", *os.path.relpath(directory, root).split("/")]:
        path = f"{path}/{part}" if part else path
        offered = (_read(f"{path}/cgroup.controllers") or "").split()
        enabled = (_read(f"{path}/cgroup.subtree_control") or "").split()
        wanted = [name for name in _V2 if name in offered and name not in enabled]
        for name in wanted:
            try:
                _write(f"{path}/cgroup.subtree_control", f"+{name}", "enabling controllers")
            except Kernel:
                continue  # not ours to give (a parent with processes in it): `_limit` says so where it matters


def _limit(cgroup: Cgroup, resources: Resources) -> None:
    at = dict(cgroup.directories)
    for setting in limits.settings_v2(resources) if cgroup.version == 2 else limits.settings_v1(resources):
        path = f"{at['' if cgroup.version == 2 else setting.controller]}/{setting.file}"
        if os.path.exists(path):
            _set(path, setting, resources)
        elif setting.required and setting.value != "max":
            raise Unavailable(_missing(setting.controller))
    if resources.devices:
        _limit_devices(cgroup, resources.devices)


def _set(path: str, setting: limits.Setting, resources: Resources) -> None:
    doing = f"setting {setting.file} to {setting.value}"
    try:
        _write(path, setting.value, doing)
    except Kernel as error:
        # on version 1 the limit may not exceed that of memory and swap together: raising both starts with the other
        other = path.replace("memory.limit", "memory.memsw.limit")
        if error.errno != errno.EINVAL or other == path or resources.memory_swap is None or not os.path.exists(other):
            raise
        _write(other, str(max(resources.memory_swap, -1)), doing)
        _write(path, setting.value, doing)


def _limit_devices(cgroup: Cgroup, rules: tuple[DeviceRule, ...]) -> None:
    if cgroup.version == 2:
        from bayplan.kernel import device_filter

        try:
            device_filter.attach(cgroup.directories[0][1], rules)
        except OSError as error:
            raise Kernel("limiting the container's devices (needs CONFIG_CGROUP_BPF)", error) from error
        return
    directory = dict(cgroup.directories).get("devices")
    if directory is None:
        raise Unavailable(_missing("devices"))
    for rule in rules:
        file = "devices.allow" if rule.allow else "devices.deny"
        _write(f"{directory}/{file}", limits.device_line(rule), "limiting the container's devices")


def _missing(controller: str) -> str:
    return (
        f"limiting the container: this host has no {controller} controller; "
        f"mount it under {ROOT} (or boot with it enabled), or leave the limit out"
    )


def _memberships() -> frozenset[str]:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return frozenset(line.rstrip("\n").split(":", 2)[2] for line in file)


def _distinct(cgroup: Cgroup) -> tuple[tuple[str, str], ...]:
    return tuple({directory: (name, directory) for name, directory in cgroup.directories}.values())


def _write(path: str, value: str, doing: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise Kernel(doing, OSError(error.errno, error.strerror, path)) from error


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _entry(path: str, name: str) -> int | None:
    rows = (line.split() for line in (_read(path) or "").splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), None)


def _minus(total: int | None, part: int | None) -> int | None:
    return None if total is None else max(total - (part or 0), 0)
