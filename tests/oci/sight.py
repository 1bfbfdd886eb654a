"""What was seen, without what differs from one run to the next by nature: ids, numbers of mounts and namespaces, directories."""

from __future__ import annotations

import os
import re
import time

from bundles import Place
from runtimes import Seen

Fields = dict[tuple[str, str], str]
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def reduce(seen: Seen, place: Place, container: str) -> Fields:
    """The fields to compare."""
    known = _known(place)
    fields: Fields = {}
    for (field, name), value in seen.fields.items():
        if field in ("mounts", "clocks"):
            continue
        name, value = (text.replace(container, "ID").replace(str(place.directory), "@") for text in (name, value))
        if name in NAMESPACES and re.fullmatch(r"\w+:\[\d+\]", value):
            value = known.get(value, "new")
        elif field == "descriptors":
            value = re.sub(r":\[\d+\]", "", value)
        elif field == "uid_map":
            value = " ".join(value.split())
        elif name == "state.pid":
            value = "a number" if value.isdigit() else value
        elif name == "state.ociVersion":
            continue
        fields[field, name] = value
    for name, clock in (("monotonic", time.CLOCK_MONOTONIC), ("boottime", time.CLOCK_BOOTTIME)):
        value = seen.fields.get(("clocks", name))
        if value is not None:
            fields["clocks", name] = "as the host's" if abs(int(value) - time.clock_gettime(clock)) < 100 else "of its own"
    return fields | _mounts([value for (field, _), value in seen.fields.items() if field == "mounts"], place, container)


def _known(place: Place) -> dict[str, str]:
    """Links of /proc/PID/ns: this process's, which are the host's, and those that bundles join."""
    joined = {os.readlink(path): f"joined {kind}" for kind, path in place.namespaces.items()}
    return {os.readlink(f"/proc/self/ns/{name}"): "the host's" for name in NAMESPACES} | joined


def _mounts(lines: list[str], place: Place, container: str) -> Fields:
    """proc_pid_mountinfo(5), by mount point; of several at one point, in their order.

    A file system's mode is not among its options: some runtimes give it afterwards, and it is seen at the path itself.
    """
    fields: Fields = {}
    for line in lines:
        words = line.replace(container, "ID").replace(str(place.directory), "@").split(" ")
        end = words.index("-")
        root, target, options = words[3:6]
        shared = sorted(re.sub(r":\d+", "", tag) for tag in words[6:end])
        kind, source, superblock = words[end + 1 : end + 4]
        place_name = next(name for name in (target, *(f"{target} #{n}" for n in range(2, 99))) if ("mount of", name) not in fields)
        fields["mount of", place_name] = f"{kind} {root}"
        fields["mount source", place_name] = source
        fields["mount options", place_name] = ",".join(sorted(options.split(",")))
        fields["mount superblock", place_name] = ",".join(sorted(word for word in superblock.split(",") if not word.startswith("mode=")))
        fields["mount propagation", place_name] = " ".join(shared) or "private"
    return fields
