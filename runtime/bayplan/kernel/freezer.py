"""Processes held where they are, all at once, and let go again (cgroup.freeze of version 2, the freezer controller of version 1).

On version 1 each hierarchy that a container is in costs its start a grace period: one that has not asked for the freezer's (`also`
of `cgroups.create`) joins it when it is first frozen, and stays there.
"""

from __future__ import annotations

import errno
import os
import time

from bayplan.errors import Conflict, Kernel, Unavailable
from bayplan.kernel.cgroup_files import read, rows, write
from bayplan.kernel.cgroups import Cgroup, directories, join_all, observe_host

_SECONDS, _THAW_SECONDS = 10.0, 10.0
_ROUND_SECONDS = 0.5


def freeze(cgroup: Cgroup) -> Cgroup:
    """Freeze all that is in it, and wait until it is. The cgroup is returned with the freezer's hierarchy.

    Conflict if it is not frozen after 10 s (a process waits for a device, say): it is then thawed again. Unavailable where there is
    no freezer: Linux before 5.2 on version 2, or a hierarchy that is not mounted on version 1.
    """
    cgroup = _with_freezer(cgroup)
    try:
        _freeze(cgroup, time.monotonic() + _SECONDS)
    except BaseException:
        thaw(cgroup)  # half frozen it would neither run nor answer
        raise
    return cgroup


def thaw(cgroup: Cgroup) -> None:
    """Let it go on; one that is not frozen is no error. Conflict if it does not within 10 s: a cgroup above it is frozen."""
    directory = _directory(cgroup)
    if not directory:
        return
    _set(cgroup, directory, frozen=False)
    deadline = time.monotonic() + _THAW_SECONDS
    while _is(cgroup, directory):
        if time.monotonic() > deadline:
            raise Conflict(f"thawing the container: it stays frozen with a cgroup above it; thaw that ({os.path.dirname(directory)})")
        time.sleep(0.001)


def is_frozen(cgroup: Cgroup) -> bool:
    """Whether it has been frozen, itself and not by a parent. One that is on its way to either is waited for, for 10 s at most."""
    directory = _directory(cgroup)
    if not directory:
        return False
    if cgroup.version == 2:
        return (read(f"{directory}/cgroup.freeze") or "").strip() == "1"
    deadline = time.monotonic() + _SECONDS
    while (read(f"{directory}/freezer.state") or "").strip() == "FREEZING" and time.monotonic() < deadline:
        time.sleep(0.001)
    return (read(f"{directory}/freezer.self_freezing") or "").strip() == "1"


def _freeze(cgroup: Cgroup, deadline: float) -> None:
    directory = _directory(cgroup)
    while True:
        _set(cgroup, directory, frozen=True)
        round_ends = min(time.monotonic() + _ROUND_SECONDS, deadline) if cgroup.version == 1 else deadline
        while time.monotonic() < round_ends:
            if _is(cgroup, directory):
                return
            if cgroup.version == 1:  # a process born while the others froze is found by another write
                _set(cgroup, directory, frozen=True)
            time.sleep(0.001)
        if time.monotonic() >= deadline:
            raise Conflict("freezing the container: it is not frozen after 10 s; a process in it waits for the kernel, try again later")
        _set(cgroup, directory, frozen=False)  # on version 1 a stampede of births may need a new begin


def _is(cgroup: Cgroup, directory: str) -> bool:
    if cgroup.version == 2:
        return rows(f"{directory}/cgroup.events").get("frozen") == 1
    return (read(f"{directory}/freezer.state") or "").strip() == "FROZEN"


def _set(cgroup: Cgroup, directory: str, *, frozen: bool) -> None:
    doing = "freezing the container" if frozen else "thawing the container"
    try:
        if cgroup.version == 2:
            write(f"{directory}/cgroup.freeze", "1" if frozen else "0", doing)
        else:
            write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED", doing)
    except Kernel as error:
        if error.errno == errno.ENOENT and os.path.isdir(directory):
            raise Unavailable(f"{doing}: this host's kernel cannot freeze cgroups of version 2 (Linux 5.2 can)") from error
        raise


def _directory(cgroup: Cgroup) -> str:
    """Where it is frozen; "" if on version 1 it has never been."""
    if cgroup.version == 2:
        return cgroup.directories[0][1]
    at = dict(cgroup.directories).get("freezer") or _place(cgroup)
    return at if os.path.isdir(at) else ""


def _place(cgroup: Cgroup) -> str:
    """The directory in the freezer's hierarchy that has the name which the cgroup has in the others."""
    mounts = observe_host().mounts
    point = dict(mounts).get("freezer")
    if point is None:
        return ""
    path = directories(cgroup)[0]
    own = next(mount for _, mount in mounts if path.startswith(mount + "/"))
    return point + path[len(own) :]


def _with_freezer(cgroup: Cgroup) -> Cgroup:
    if cgroup.version == 2 or "freezer" in dict(cgroup.directories):
        return cgroup
    place = _place(cgroup)
    if not place:
        raise Unavailable("freezing the container: this host has no freezer controller; mount it under /sys/fs/cgroup")
    os.makedirs(place, exist_ok=True)
    hierarchy = Cgroup(1, (("freezer", place),))
    join_all(cgroup, hierarchy)
    return Cgroup(1, (*cgroup.directories, *hierarchy.directories))
