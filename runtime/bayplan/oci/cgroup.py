"""Where a container's cgroup is: `linux.cgroupsPath`, as the two managers read it.

cgroupfs takes a path beneath each hierarchy's root; systemd SLICE:PREFIX:NAME, for the scope PREFIX-NAME.scope in SLICE.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.kernel import cgroups
from bayplan.kernel.cgroups import Cgroup
from bayplan.model.runtime import Config, Resources
from bayplan.oci.record import Record

_DEFAULT = "bayplan-oci"


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
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return f"{_slice_path(slice_name or 'system.slice')}/{unit}"


def _slice_path(name: str) -> str:
    """a-b.slice lies in a.slice (systemd.slice(5))."""
    if not name.endswith(".slice") or name.startswith("-") or "--" in name or name.endswith("-.slice"):
        raise Invalid(f"linux.cgroupsPath: {name!r} is not the name of a slice")
    words = name[: -len(".slice")].split("-")
    return "/".join("-".join(words[: end + 1]) + ".slice" for end in range(len(words)))


def create(made: Record, resources: Resources) -> Cgroup:
    return cgroups.create(cgroups.observe_host(), made.cgroup, resources, leaf="")


def find(found: Record) -> Cgroup | None:
    return cgroups.find(cgroups.observe_host(), found.cgroup, leaf="")


def remove(found: Record) -> None:
    there = find(found)
    if there:
        cgroups.remove(there, leaf="")
