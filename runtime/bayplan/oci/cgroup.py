"""Where a container's cgroup is: `linux.cgroupsPath`, as the two managers read it.

cgroupfs takes a path beneath each hierarchy's root; systemd SLICE:PREFIX:NAME, for the scope PREFIX-NAME.scope in SLICE.
A scope is delegated, which is what is beneath its cgroup, and not that itself (https://systemd.io/CGROUP_DELEGATION/): there a
`systemctl daemon-reload` takes away all limits that no property of the unit says. So the container is in a cgroup beneath it.
"""

from __future__ import annotations

import os

from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.kernel import cgroups, freezer
from bayplan.kernel.cgroups import Cgroup
from bayplan.model.runtime import Config, Resources
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DEFAULT = "bayplan-oci"
_LEAF = "container"
_SIGKILL = 9


def path(config: Config, container_id: str, *, systemd: bool) -> str:
    """The cgroup's path beneath the root, without a slash at its beginning. Invalid for one that leads elsewhere."""
    given = config.linux.cgroups_path
    if systemd:
        return _unit_path(given or f"system.slice:{_DEFAULT}:{container_id}")
    parts = [part for part in (given or f"{_DEFAULT}/{container_id}").split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise Invalid(f"linux.cgroupsPath: {given!r} leads out of the cgroup file system")
    return "/".join(parts)


def _unit_path(given: str) -> str:
    parts = given.split(":")
    if len(parts) != 3 or not parts[2] or any("/" in part for part in parts):
        raise Invalid(f"linux.cgroupsPath: {given!r} is not SLICE:PREFIX:NAME, which --systemd-cgroup wants")
    slice_name, prefix, name = parts
    if name.endswith(".slice"):
        raise Invalid(f"linux.cgroupsPath: {name!r} is a slice, and a container is a scope; leave .slice out")
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return f"{_slice_path(slice_name or 'system.slice')}{unit}/{_LEAF}"


def _slice_path(name: str) -> str:
    """a-b.slice lies in a.slice, and -.slice is the root (systemd.slice(5))."""
    if name == "-.slice":
        return ""
    if not name.endswith(".slice") or name.startswith("-") or "--" in name or name.endswith("-.slice"):
        raise Invalid(f"linux.cgroupsPath: {name!r} is not the name of a slice")
    words = name[: -len(".slice")].split("-")
    return "".join("-".join(words[: end + 1]) + ".slice/" for end in range(len(words)))


def verify_free(place: str) -> None:
    """Conflict where somebody's processes are in that cgroup, who would end with the container; or where nothing can run in it."""
    there = cgroups.find(cgroups.observe_host(), place, leaf="")
    for pair in there.directories if there else ():
        inside = cgroups.pids(Cgroup(there.version, (pair,))) if there else ()
        if inside:
            raise Conflict(f"linux.cgroupsPath: {pair[1]} is not empty: process {inside[0]} is in it; name another")
    if there and freezer.is_frozen(there):
        raise Conflict(f"linux.cgroupsPath: {place} is there, and frozen; thaw it, or name another")


def create(made: Record, resources: Resources) -> Cgroup:
    """Make it, on version 1 in every hierarchy: engines look there for what a container uses, and would find the host's numbers.

    systemd's scope is there already (`hold`)."""
    host = cgroups.observe_host()
    writable = tuple(name for name, point in host.mounts if os.access(point, os.W_OK))  # somebody else's are not, in a container
    return cgroups.create(host, made.cgroup, resources, leaf="", also=writable)


def find(found: Record) -> Cgroup | None:
    """None also for a record that says none: of the root, everything is a part."""
    return cgroups.find(cgroups.observe_host(), found.cgroup, leaf="") if found.cgroup else None


def remove(found: Record) -> None:
    there = find(found)
    if there:
        cgroups.remove(there, leaf="")
    if there and found.systemd and there.version == 1:  # of which systemd knows not every hierarchy
        for directory in cgroups.directories(there):
            try:
                os.rmdir(os.path.dirname(directory))
            except OSError:
                continue


def hold(made: Record) -> tuple[int, int]:
    """Have systemd make the container's scope; what is returned is for `let_go`, once the container's process is in there.

    A scope takes a process to make and to stay; until there is the container's, this is one that does nothing. Unavailable where there
    is no systemd, or it refuses.
    """
    if not made.systemd:
        return 0, -1
    from bayplan.kernel import systemd

    *slices, unit, _ = made.cgroup.split("/")
    end, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        _wait(end, ours)
    os.close(end)
    try:
        systemd.make_scope(unit, pid=pid, slice_name=slices[-1] if slices else "-.slice", description=f"container {made.id}")
        _move_down(made, pid)
    except BaseException:
        let_go((pid, ours))
        raise
    return pid, ours


def _move_down(made: Record, pid: int) -> None:
    """On version 2 a cgroup with processes in it hands no controllers on, or becomes one for threads (cgroups(7))."""
    host = cgroups.observe_host()
    if host.version == 2:
        directory = f"{host.mounts[0][1]}/{made.cgroup}"
        os.mkdir(directory)
        cgroups.join(Cgroup(2, (("", directory),)), pid)


def _wait(end: int, ours: int) -> None:
    """Until the other end closes, however that comes about."""
    try:
        os.close(ours)
        for fd in (0, 1, 2):  # nobody who reads them to their end waits for this process
            os.dup2(end, fd)
        os.read(end, 1)
    finally:
        os._exit(0)


def let_go(held: tuple[int, int]) -> None:
    pid, ours = held
    if pid:
        os.kill(pid, _SIGKILL)  # the end of its file would wait for the container's first process, which has inherited the pipe
        os.close(ours)
        os.waitpid(pid, 0)


def inside(own: Cgroup, pid: int, words: Sequence[str]) -> Cgroup:
    """Where a further process of a container is to be: in `own`, or beneath it as the `words` say, [CONTROLLER,...:]PATH each.

    Without words, as cgroups.beside has it. NotFound for a path that is not there, Invalid for one that leads out.
    """
    if not words:
        return cgroups.beside(own, pid)
    chosen = {directory: below for word in words for directory, below in _below(own, word)}
    return Cgroup(own.version, tuple((name, chosen.get(directory, directory)) for name, directory in own.directories))


def _below(own: Cgroup, word: str) -> Iterator[tuple[str, str]]:
    names, _, place = word.rpartition(":")
    parts = [part for part in place.split("/") if part not in ("", ".")]
    known = dict(own.directories)
    if ".." in parts:
        raise Invalid(f"--cgroup {word}: it leads out of the container's cgroup")
    for name in names.split(",") if names else known:
        if name not in known:
            raise Invalid(f"--cgroup {word}: the container is in no hierarchy of the controller {name}")
        below = "/".join((known[name], *parts))
        if not os.path.isdir(below):
            raise NotFound(f"--cgroup {word}: {below} is not there; the container makes it, or its --cgroup is another")
        yield known[name], below
