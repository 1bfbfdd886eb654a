"""Limits written to a cgroup, in an order that the kernel accepts; its devices, by a list on version 1 and a program on version 2."""

from __future__ import annotations

import errno
import os

from bayplan.errors import Conflict, Kernel, Unavailable
from bayplan.kernel.cgroup_files import number, read, write
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from bayplan.kernel.cgroups import Cgroup
    from bayplan.kernel.limits import Setting
    from bayplan.model.runtime import Resources

_REMEDIES = {
    "memory.limit": " (on version 1 memory.swap, which counts both, is not to be less: set it too)",
    "cpu.quota": " (no more than its parent's)",
    "cpu.burst": " (no more than the quota)",
    "cpu.realtimeRuntime": " (its parent must have that much to give)",
}


def apply(cgroup: Cgroup, settings: list[Setting], resources: Resources) -> None:
    """Write `settings`, which are those of `resources`, and limit its devices to them. Raises as `cgroups.create` does."""
    if resources.memory_check_before_update:
        _check_memory(cgroup, resources)
    _write_all(cgroup, settings)
    if resources.devices:
        _limit_devices(cgroup, resources)


def complete(cgroup: Cgroup, resources: Resources) -> Resources:
    """`resources` for a live cgroup: with the other half, as it is now, of what version 2 keeps in one file, or counts otherwise."""
    r = resources
    if cgroup.version == 1:
        return r
    directory = cgroup.directories[0][1]
    if bool(r.cpu_quota) != bool(r.cpu_period):
        quota, period = (read(f"{directory}/cpu.max") or "max 100000").split()
        r = r._replace(cpu_quota=r.cpu_quota or (-1 if quota == "max" else int(quota)), cpu_period=r.cpu_period or int(period))
    if r.memory_swap and not r.memory_limit:
        r = r._replace(memory_limit=number(f"{directory}/memory.max") or -1)
    return r


def missing(setting: Setting) -> str:
    """Why it cannot be written on a host without its controller."""
    return (
        f"limiting the container: {setting.field} needs the {setting.controller} controller, which this host has not; "
        f"mount it under /sys/fs/cgroup (or boot with it enabled), or leave the limit out"
    )


def _write_all(cgroup: Cgroup, settings: list[Setting]) -> None:
    """Values that depend on each other (quota and period and burst; memory, and memory with swap) are refused with EINVAL while the
    old one of the other stands: those are written again after the rest, as long as that gets any further."""
    waiting = settings
    while waiting:
        refused = [(setting, error) for setting in waiting if (error := _write(cgroup, setting))]
        if len(refused) == len(waiting):
            raise refused[0][1]
        waiting = [setting for setting, _ in refused]


def _write(cgroup: Cgroup, setting: Setting) -> Kernel | None:
    at = dict(cgroup.directories)
    directory = at["" if cgroup.version == 2 else setting.controller]
    for file, value in ((setting.file, setting.value), *setting.instead):
        path = f"{directory}/{file}"
        if os.path.exists(path):
            try:
                write(path, value, f"setting {setting.field} to {value}{_REMEDIES.get(setting.field, '')}")
            except Kernel as error:
                if error.errno == errno.EINVAL:
                    return error
                raise _explained(error, setting, directory) from error
            return None
    if setting.required and not (setting.value == "max" and not _has_controller(cgroup, setting)):
        raise Unavailable(_missing_file(setting) if _has_controller(cgroup, setting) else missing(setting))
    return None


def _has_controller(cgroup: Cgroup, setting: Setting) -> bool:
    if cgroup.version == 1:
        return True  # it was joined
    return setting.controller in ("cgroup", *(read(f"{cgroup.directories[0][1]}/cgroup.controllers") or "").split())


def _missing_file(setting: Setting) -> str:
    return (
        f"limiting the container: {setting.field} needs {setting.file}, which this host's kernel does not have in the "
        f"{setting.controller} controller; leave the limit out"
    )


def _explained(error: Kernel, setting: Setting, directory: str) -> Exception:
    used = number(f"{directory}/memory.usage_in_bytes") if setting.field == "memory.limit" else None
    if error.errno == errno.EBUSY and used is not None:  # version 1 only: version 2 takes it, and kills
        return Conflict(f"setting memory.limit to {setting.value}: the container uses {used} bytes, and the kernel can free no more")
    return error


def _check_memory(cgroup: Cgroup, r: Resources) -> None:
    """What version 1 does by itself: a limit below what is used is refused, where version 2 would kill."""
    used = number(f"{cgroup.directories[0][1]}/memory.current") if cgroup.version == 2 else None
    for field, limit in (("memory.limit", r.memory_limit), ("memory.swap", r.memory_swap)):
        if used is not None and limit is not None and 0 < limit <= used:
            raise Conflict(f"setting {field} to {limit}: the container uses {used} bytes, and memory.checkBeforeUpdate is set")


def _limit_devices(cgroup: Cgroup, resources: Resources) -> None:
    if cgroup.version == 2:
        from bayplan.kernel import device_filter

        try:
            device_filter.attach(cgroup.directories[0][1], resources.devices)
        except OSError as error:
            raise Kernel("limiting the container's devices (needs CONFIG_CGROUP_BPF)", error) from error
        return
    from bayplan.kernel import device_list

    directory = dict(cgroup.directories).get("devices")
    if directory is None:
        raise Unavailable("limiting the container: devices needs the devices controller, which this host has not; mount it")
    device_list.change(directory, resources.devices)
