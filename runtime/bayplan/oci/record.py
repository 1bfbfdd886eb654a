"""What is known of each container between two commands: a directory each, of root's alone.

    ROOT/ID/state.json    pid and start time of its first process, bundle, cgroup; written before there is a process, and after
    ROOT/ID/config.json   the configuration as it was at `create`: what becomes of the bundle's file does not matter
    ROOT/ID/start.sock    where a created container waits for `start`; gone once it has begun
    ROOT/@seccomp         compiled filters (filters.py)

A record whose process is gone is that of a stopped container. A name is taken by making its directory.
"""

from __future__ import annotations

import os
import stat

from bayplan.errors import Conflict, Invalid, NotFound, Unavailable
from bayplan.kernel.pids import Handle, is_alive
from bayplan.model import jsontext
from bayplan.model.runtime import OCI_VERSION
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

SOCKET = "start.sock"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_LONGEST = 255


class Record(NamedTuple):
    """`created` is RFC 3339; `cgroup` the name beneath each hierarchy's root; `pid` 0 while there is no process yet.
    Where it `shares_pids` with others, its processes do not end with the first one."""

    id: str
    bundle: str
    rootfs: str
    cgroup: str
    created: str
    pid: int = 0
    start_time: int = 0
    systemd: bool = False
    shares_pids: bool = False

    @property
    def handle(self) -> Handle:
        return Handle(self.pid, self.start_time)


def directory(root: str, container_id: str) -> str:
    """The directory of container `container_id`. Invalid for what cannot be an id."""
    if not container_id or set(container_id) - _LETTERS or container_id in (".", "..") or len(container_id) > _LONGEST:
        raise Invalid(f"{container_id!r} is not a container's id: letters, digits and _+-. are, up to {_LONGEST}")
    return f"{root}/{container_id}"


def take(root: str, container_id: str) -> str:
    """Make the directory; Conflict where there is one. The root must be root's, and nobody else may write there."""
    path = directory(root, container_id)
    os.makedirs(root, mode=0o711, exist_ok=True)
    found = os.stat(root)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unavailable(f"using {root}: it belongs to another user, or others may write there; give another --root")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError as error:
        raise Conflict(f"creating container {container_id}: one with that id already exists; delete it first, or choose another") from error
    return path


def write(root: str, record: Record) -> None:
    write_file(f"{directory(root, record.id)}/state.json", jsontext.dumps(record._asdict()))


def read(root: str, container_id: str) -> Record:
    """NotFound where there is none; Unavailable for a record that is not ours, or half made."""
    path = directory(root, container_id)
    try:
        with open(f"{path}/state.json", "rb") as file:
            return Record(**jsontext.loads(file.read()))
    except FileNotFoundError as error:
        if os.path.isdir(path):
            raise Unavailable(f"reading container {container_id}: it is being created, or that was cut off; delete --force it") from error
        raise NotFound(f"looking up {container_id}: container does not exist") from error
    except (ValueError, TypeError) as error:
        raise Unavailable(f"reading {path}/state.json: it is damaged ({error}); delete --force the container") from error


def state(found: Record, status: str, annotations: Iterable[tuple[str, str]]) -> dict[str, object]:
    """The specification's state object (runtime.md, "State"), which `state` prints and hooks are told."""
    said = {
        "ociVersion": OCI_VERSION,
        "id": found.id,
        "status": status,
        "pid": 0 if status == "stopped" else found.pid,
        "bundle": found.bundle,
        "annotations": dict(annotations),
    }
    return said if said["annotations"] else {name: value for name, value in said.items() if name != "annotations"}


def ids(root: str) -> list[str]:
    """Of all containers; what is kept beside them has a name that is no id."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if "@" not in entry.name and entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def write_file(path: str, text: str, mode: int = 0o600) -> None:
    write_bytes(path, text.encode(), mode)


def write_bytes(path: str, content: bytes, mode: int = 0o600) -> None:
    """By rename: whoever reads it finds all of it."""
    parent, _, name = path.rpartition("/")
    scratch = f"{parent or '.'}/.{name}.{os.getpid()}"
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
    os.rename(scratch, path)


def status(root: str, record: Record) -> str:
    """creating, created, running or stopped; whether a running one is paused, its cgroup knows."""
    if not record.pid:
        return "creating"
    if not is_alive(record.handle):
        return "stopped"
    return "created" if os.path.exists(f"{directory(root, record.id)}/{SOCKET}") else "running"
