"""What the host contributes to a container's bundle: volumes' content, devices, namespaces to join, the root file system."""

from __future__ import annotations

import os
import stat

from bayplan.engine import cgroup, containers, volumes
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import Invalid, NotFound
from bayplan.kernel.rootfs import Overlay, Plain
from bayplan.model.container import Mount
from bayplan.model.digest import parse_digest
from bayplan.model.image import ImageConfig
from bayplan.model.runtime import Device, IdMapping
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan.bundle import Source, Surroundings
from bayplan.store import drivers, records

if TYPE_CHECKING:
    from bayplan.model.cdi import Edits

# Above systemd's range for containers, and below what is negative as 32 bits (systemd's "Users, Groups, UIDs and GIDs")
FIRST_ID, IDS, ID_SLOTS = 0x70000000, 1 << 16, 4096
_JOINED = {"network_mode": ("network", "net"), "pid": ("pid", "pid"), "ipc": ("ipc", "ipc"), "uts": ("uts", "uts")}


def surroundings(state: State, record: Record) -> Surroundings:
    """Look the host's part up; makes the directories that binds ask for. Raises NotFound, Invalid, Conflict."""
    for mount in record.spec.mounts:
        if mount.kind == "bind":
            _make_sure_of_bind(record, mount)
    return Surroundings(
        id=record.id,
        directory=state.root.container(record.id),
        cgroups_path=cgroup.path(state, record.id),
        sources=_sources(state, record),
        namespaces=_joined(state, record),
        devices=_devices(record),
        cpus=os.cpu_count() or 1,
        edits=_edits(record),
        ids=_ids(state, record),
    )


def _make_sure_of_bind(record: Record, mount: Mount) -> None:
    if os.path.exists(mount.source):
        return
    if not mount.create_host_path:
        raise NotFound(f"mounting {mount.source} into {record.name}: it does not exist on this host; create it first")
    os.makedirs(mount.source, mode=0o755, exist_ok=True)


def _sources(state: State, record: Record) -> dict[str, Source]:
    """By the path where the volume is mounted: an anonymous one, or one of the image's, has no name in the declaration."""
    return {
        use.target: volumes.source(state, volumes.find(state, use.volume))
        for use in records.volume_uses(state.records, container=record.id)
    }


def _joined(state: State, record: Record) -> dict[str, str]:
    """Paths of the namespaces of the container that is named by container:NAME."""
    joined = {}
    for field, (kind, name) in _JOINED.items():
        mode = getattr(record.spec, field)
        if mode.startswith("container:"):
            other = containers.find(state, mode.partition(":")[2])
            joined[kind] = f"/proc/{containers.started(state, other).pid}/ns/{name}"
    return joined


def _devices(record: Record) -> tuple[Device, ...]:
    if record.spec.privileged:
        return _all_devices()
    return tuple(_device(each.source, each.target, record) for each in record.spec.devices if each.target)


def _edits(record: Record) -> tuple[Edits, ...]:
    named = [device.source for device in record.spec.devices if not device.target]
    if not named:
        return ()
    from bayplan.engine import cdi  # for those who have such devices

    return cdi.edits(named)


def _ids(state: State, record: Record) -> tuple[IdMapping, ...]:
    if record.spec.userns != "private":
        return ()
    slot = records.claim_ids(state.records, record.id, slots=ID_SLOTS, first=int(state.id, 16) % ID_SLOTS)
    return (IdMapping(0, FIRST_ID + slot * IDS, IDS),)


def _device(source: str, target: str, record: Record) -> Device:
    try:
        found = os.stat(source)
    except OSError as error:
        raise NotFound(f"giving the device {source} to {record.name}: {error.strerror}") from error
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind:
        raise Invalid(f"giving the device {source} to {record.name}: it is not a device node")
    number = found.st_rdev
    return Device(target, kind, os.major(number), os.minor(number), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def _all_devices() -> tuple[Device, ...]:
    """Every node of the host's /dev but terminals: what a privileged container sees."""
    found = []
    with os.scandir("/dev") as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not entry.name.startswith(("tty", "console", "ptmx")):
                number = entry.stat(follow_symlinks=False).st_rdev
                kind = "c" if stat.S_ISCHR(mode) else "b"
                found.append(Device(entry.path, kind, os.major(number), os.minor(number), stat.S_IMODE(mode)))
    return tuple(found)


def rootfs(state: State, record: Record, config: ImageConfig) -> Overlay | Plain:
    """The container's root file system, as the state's storage driver makes it."""
    diff_ids = tuple(parse_digest(str(each)) for each in config.diff_ids)
    made = drivers.prepare(state.root, state.root.container(record.id), diff_ids)
    strict = record.spec.profile == "strict"
    if isinstance(made, drivers.Tree):
        return Plain(made.path, strict, idmapped=record.spec.userns == "private")
    return Overlay(state.root.path, made.lower, made.upper, made.work, strict)
