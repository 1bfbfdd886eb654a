"""The differences from both runc and crun that are meant, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Fields = Mapping[tuple[str, str], str]


class Accepted(NamedTuple):
    """Of fields and names that match both expressions entirely, what `when` (given the configuration, our value, theirs) says yes to."""

    field: str
    name: str
    reason: str
    when: Callable[[Mapping[str, Any], str | None, list[str | None]], bool] = lambda config, ours, theirs: True


def _read_only(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    return any("ro" in mount.get("options", ()) for mount in config["mounts"] if mount.get("type") == "cgroup")


def _scheduled(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    policies = {"SCHED_OTHER": "0", "SCHED_BATCH": "3", "SCHED_IDLE": "5"}
    return ours == policies[config["process"].get("scheduler", {}).get("policy", "SCHED_OTHER")]


def _prioritised(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    wanted = config["process"].get("ioPriority")
    return wanted is not None and ours == str(2 << 13 | wanted["priority"])


def _tun(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    return {value and value.replace("c 10:200 rwm ", "").replace("c 5:1 rwm ", "") for value in theirs} >= {ours}


def _as_its_options_say(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    seen = {"private": "private", "slave": "master", "shared": "shared"}
    words = {
        seen[word.removeprefix("r")] for mount in config["mounts"] for word in mount.get("options", ()) if word.removeprefix("r") in seen
    }
    return ours in {"private", *words}


def _domain(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    return ours == config.get("domainname")


def _in_order(config: Mapping[str, Any], ours: str | None, theirs: list[str | None]) -> bool:
    moments = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    ran = [moments.index(moment) for moment in (ours or "").split()]
    return ran == sorted(ran) and sorted(ran) == sorted(moments.index(moment) for moment in (theirs[0] or "").split())


ACCEPTED = (
    Accepted("scheduling", "policy", "both ignore `scheduler`; this is what it says", _scheduled),
    Accepted("scheduling", "ioprio", "both ignore `ioPriority`; this is what it says", _prioritised),
    Accepted("cgroups", "devices.list", "runc 1.1 allows the tunnel device unasked, and 1.2 no more; crun allows the console", _tun),
    Accepted("paths|devices", "/dev/net/tun", "the same", lambda config, ours, theirs: ours is not None and "EPERM" in ours),
    Accepted("process", "dumpable", "the program is the second that is executed with these capabilities, so that it gains none (prctl(2))",
             lambda config, ours, theirs: ours == "1"),
    Accepted("mount options|mount superblock|mount source|mount of", "/(proc|sys|etc|data|srv|mnt).*", "what hides a path: the host's null "
             "device, verified, or a read-only tmpfs without room for a file; all three runtimes take another one",
             lambda config, ours, theirs: any(word in (ours or "") for word in ("nr_inodes=2", "null", "relatime,rw", "devtmpfs"))),
    Accepted("paths", "/.*", "the same tmpfs has the usual mode of a directory, not 1777",
             lambda config, ours, theirs: ours is not None and " ro " in ours and "entries:none" in ours and ours[:5] == "40755"
             and [value and value[5:] for value in theirs] == [ours[5:]] * len(theirs)),
    Accepted("mount options", "/sys/fs/cgroup", "read-only is what was asked for", _read_only),
    Accepted("mount superblock|mount source", "/sys/fs/cgroup.*", "the directory of the controllers: all three have other sizes and names"),
    Accepted("paths", "/sys/fs/cgroup", "the same directory's mode, and that it is read-only as was asked for"),
    Accepted("left in the root", "/.*", "a file that was made to be mounted on: all three have other modes",
             lambda config, ours, theirs: ours is not None and ours.startswith("100644 ")),
    Accepted("mount propagation", "/(proc|sys|etc|data|srv).*", "what hides a path, or makes it read-only, is for this container alone",
             lambda config, ours, theirs: ours == "private"),
    Accepted("mount propagation", "/sys/fs/cgroup/.*", "the host's hierarchies are bound for this container alone",
             lambda config, ours, theirs: ours == "private"),
    Accepted("mount propagation", "/mnt/.*", "the mount's own options say so, private being said where nothing is; with the others it "
             "depends on `rootfsPropagation` as well", _as_its_options_say),
    Accepted("host", "domain", "both ignore `domainname`; this is what it says", _domain),
    Accepted("hook .*", "env LC_CTYPE=C.UTF-8", "an interpreter in the C locale has added it to its own environment (PEP 538)"),
    Accepted("hooks", "order", "the others run `poststart` while those of `startContainer` still run", _in_order),
)  # fmt: skip


def reason(config: Mapping[str, Any], key: tuple[str, str], ours: str | None, theirs: list[str | None]) -> str | None:
    """Why this difference is meant, or None."""
    for each in ACCEPTED:
        if re.fullmatch(each.field, key[0]) and re.fullmatch(each.name, key[1]) and each.when(config, ours, theirs):
            return each.reason
    return None
