"""What an image or another tool's bundle says, in every odd form: a value, or an error of ours; never anything else."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import BayplanError, Invalid
from bayplan.kernel import mounts, users
from bayplan.model import bundle_document, bundle_parser
from bayplan.model import runtime as r
from bayplan.model.capabilities import granted

LINE = st.text(st.sampled_from("root:x0123456789-+#app, \n"), max_size=200)
NAME = st.text(st.sampled_from("root:app0123456789-+ ٣"), max_size=24)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "process root mounts linux annotations hostname args env cwd user uid gid path options destination type "
    "namespaces resources memory cpu pids limit devices seccomp syscalls names action sysctl rlimits soft hard "
    "capabilities bounding "
).split()
DOCUMENT = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=20,
)


@given(NAME, LINE, LINE, st.lists(NAME, max_size=2))
def test_a_user_is_resolved_within_range_or_refused(name: str, passwd: str, group: str, groups: list[str]) -> None:
    try:
        identity = users.resolve(r.User(username=name, additional_groups=tuple(groups)), passwd, group)
    except BayplanError:
        return
    numbers = (identity.uid, identity.gid, *identity.groups)
    assert all(0 <= number < 2**32 - 1 for number in numbers), "never -1, which would leave root's identity in place"
    if name and not name.startswith(":") and identity.uid == 0:
        first = name.partition(":")[0]
        owns = any(row.strip().split(":")[2:3] == ["0"] or row.strip().split(":")[0] == first for row in passwd.split("\n"))
        assert int(first) == 0 if first.isdecimal() and not owns else True, "a number is not root unless it says 0"


@given(DOCUMENT)
def test_a_bundle_is_parsed_or_invalid(document: object) -> None:
    small: dict[str, object] = {"ociVersion": "1.2.0", "root": {"path": "/"}, "process": {"args": ["x"], "cwd": "/"}}
    for candidate in (document, *({**small, member: document} for member in ("process", "root", "linux", "mounts", "hooks"))):
        try:
            config = bundle_parser.parse_config(candidate)
        except Invalid:
            continue
        assert bundle_parser.parse_config(bundle_document.config_document(config)) == config, "what was parsed survives being written"


def places(value: object, path: str = "") -> list[tuple[str, object, object]]:
    """Every (path, container, key) in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, each in inner:
        at = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}".lstrip(".")
        found += [(at, value, key), *places(each, at)]
    return found


FULL = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 5, "gid": 6, "umask": 18, "additionalGids": [7]},
        "args": ["sh", "-c"],
        "env": ["A=b"],
        "cwd": "/srv",
        "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}],
        "noNewPrivileges": True,
        "oomScoreAdj": 5,
        "apparmorProfile": "a",
        "selinuxLabel": "b",
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 1, "flags": ["SCHED_FLAG_RECLAIM"], "runtime": 1, "deadline": 2, "period": 3},
        "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1},
        "execCPUAffinity": {"initial": "0", "final": "1"},
    },
    "root": {"path": "/", "readonly": True},
    "hostname": "h",
    "domainname": "d",
    "mounts": [
        {
            "destination": "/x",
            "type": "bind",
            "source": "/y",
            "options": ["bind"],
            "uidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
            "gidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
        },
        {"destination": "/proc", "type": "proc", "source": "proc", "options": []},
    ],
    "hooks": {
        moment: [{"path": "/h", "args": ["h"], "env": ["A=b"], "timeout": 1}]
        for moment in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
    "annotations": {"a": "b"},
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "user", "time")] + [{"type": "network", "path": "/n"}],
        "uidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
        "gidMappings": [{"containerID": 1, "hostID": 2, "size": 3}],
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
        "devices": [{"path": "/dev/a", "type": "c", "major": 1, "minor": 2, "fileMode": 3, "uid": 4, "gid": 5}],
        "cgroupsPath": "/c",
        "rootfsPropagation": "slave",
        "sysctl": {"x": "1"},
        "maskedPaths": ["/m"],
        "readonlyPaths": ["/r"],
        "mountLabel": "l",
        "personality": {"domain": "LINUX", "flags": []},
        "intelRdt": {"closID": "a", "l3CacheSchema": "b", "memBwSchema": "MB:", "enableCMT": True, "enableMBM": False},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/l",
            "listenerMetadata": "m",
            "syscalls": [
                {"names": ["a"], "action": "SCMP_ACT_NOTIFY"},
                {
                    "names": ["b"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 5,
                    "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_EQ"}],
                },
            ],
        },
        "resources": {
            "devices": [{"allow": True, "type": "c", "major": 1, "minor": 2, "access": "r"}],
            "memory": {
                **dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP", "swappiness"), 5),
                **dict.fromkeys(("disableOOMKiller", "checkBeforeUpdate", "useHierarchy"), True),
            },
            "cpu": {
                **dict.fromkeys(("shares", "quota", "burst", "period", "realtimeRuntime", "realtimePeriod"), 5),
                **{"cpus": "0", "mems": "0", "idle": 1},
            },
            "pids": {"limit": 5},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 1, "minor": 2, "weight": 10, "leafWeight": 10}],
                **{
                    f"throttle{what}Device": [{"major": 1, "minor": 2, "rate": 3}]
                    for what in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")
                },
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "a", "priority": 1}]},
            "rdma": {"a": {"hcaHandles": 1, "hcaObjects": 2}},
            "unified": {"a": "b"},
        },
    },
}
PATHS = [path for path, _, _ in places(FULL)]
# of each JSON type, and what is wrong in itself: a value of another type than the member's is never taken
WRONG: tuple[object, ...] = (True, -(1 << 70), 1 << 70, 1.5, "a\0b", "\ud800", [[[]]])
ODD: tuple[object, ...] = (None, 0, -1, 1 << 63, "", "x", "..", "../x", [], {}, "1", ["x"], {"x": "y"}, {"\0": []})


def mutated(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    container, key = next((container, key) for at, container, key in places(document) if at == path)
    container[key] = value  # type: ignore[index]
    return document


@given(st.sampled_from(PATHS), st.sampled_from(WRONG))
def test_a_wrong_value_anywhere_is_named_by_its_path(path: str, value: object) -> None:
    _, container, key = next(place for place in places(FULL) if place[0] == path)
    if isinstance(value, bool) and isinstance(container[key], bool):  # type: ignore[index]
        return
    try:
        bundle_parser.parse_config(mutated(path, value))
        said = "nothing"
    except Invalid as error:
        said = str(error)
    assert said.startswith(f"reading config.json: {path}"), f"{path} set to {value!r} is refused by that name"


@given(st.sampled_from(PATHS), st.sampled_from(ODD) | JSON, st.sampled_from(PATHS), st.sampled_from(ODD))
def test_odd_values_end_in_a_configuration_or_a_named_path(first: str, one: object, second: str, other: object) -> None:
    document = mutated(first, one)
    for at, container, key in places(document):
        if at == second:
            container[key] = other  # type: ignore[index]
    try:
        config = bundle_parser.parse_config(document)
    except Invalid as error:
        named = str(error).removeprefix("reading config.json: ").partition(": ")[0]
        known = any(path.startswith(named) or named.startswith(path) for path in PATHS)
        assert named and known, f"{error}: the place is one of the document's"
        return
    assert bundle_parser.parse_config(bundle_document.config_document(config)) == config, "what was parsed survives being written"


@given(st.lists(st.text(max_size=12) | st.sampled_from(["ro", "rw", "rbind", "rshared", "size=1"]), max_size=8))
def test_mount_options_never_fail(options: list[str]) -> None:
    parsed = mounts.parse_options(tuple(options))
    assert not parsed.flags & parsed.cleared & ~parsed.cleared, "sorted"


@given(st.lists(st.text(max_size=16), max_size=4), st.lists(st.text(max_size=16), max_size=4))
def test_capabilities_are_known_ones_or_invalid(add: list[str], drop: list[str]) -> None:
    try:
        sets = granted(add=add, drop=drop)
    except Invalid:
        return
    assert sets.inheritable == () and set(sets.effective) == set(sets.bounding), "consistent sets"
