from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bayplan.errors import Invalid
from bayplan.model import bundle_document, bundle_parser
from bayplan.model import runtime as r

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
CHOWN = ("CAP_CHOWN",)
IDS = (r.IdMapping(0, 1000, 500), r.IdMapping(500, 5000, 1))
HOOK = r.Hook("/usr/bin/hook", ("hook", "x"), ("A=b",), 5)
CUSTOM = r.Seccomp(
    profile="custom",
    default_action="SCMP_ACT_ERRNO",
    default_errno=1,
    architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    syscalls=(
        r.SyscallRule(names=("read",), action="SCMP_ACT_ALLOW", args=((0, 1, 2, "SCMP_CMP_MASKED_EQ"),)),
        r.SyscallRule(names=("mkdir", "chmod"), action="SCMP_ACT_NOTIFY"),
        r.SyscallRule(names=("mount",), action="SCMP_ACT_ERRNO", errno=38),
    ),
    flags=("SECCOMP_FILTER_FLAG_LOG",),
    listener_path="/run/listener",
    listener_metadata="whose",
)
PROCESS = r.Process(
    args=("/bin/sh", "-c", "true"),
    env=("PATH=/bin", "A=b=c"),
    cwd="/srv",
    user=r.User(5, 6, (7, 8), "app:staff", ("audio", "99"), 0o027),
    terminal=True,
    console_size=(24, 80),
    capabilities=r.Capabilities(bounding=CHOWN, effective=CHOWN, permitted=CHOWN, inheritable=CHOWN, ambient=CHOWN),
    rlimits=(r.Rlimit("RLIMIT_NOFILE", 1024, -1), r.Rlimit("RLIMIT_CORE", 0, 0)),
    no_new_privileges=True,
    oom_score_adj=-5,
    apparmor_profile="docker-default",
    selinux_label="system_u:system_r:container_t:s0",
    scheduler=r.Scheduler("SCHED_DEADLINE", 3, 0, ("SCHED_FLAG_RESET_ON_FORK",), 1_000_000, 2_000_000, 3_000_000),
    io_priority=r.IoPriority("IOPRIO_CLASS_BE", 4),
    cpu_affinity=r.CpuAffinity("0-1", "1"),
)
RESOURCES = r.Resources(
    memory_limit=1 << 30,
    memory_reservation=1 << 29,
    memory_swap=-1,
    memory_swappiness=0,
    oom_kill_disable=True,
    memory_kernel=1 << 28,
    memory_kernel_tcp=1 << 27,
    memory_check_before_update=True,
    cpu_shares=5,
    cpu_quota=60_000,
    cpu_period=70_000,
    cpu_burst=1000,
    cpu_idle=1,
    cpu_realtime_runtime=800,
    cpu_realtime_period=9000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    pids_limit=-1,
    devices=(r.DeviceRule(False), r.DeviceRule(True, "c", 1, None, "r")),
    block_io=r.BlockIo(
        weight=10,
        leaf_weight=1000,
        weight_devices=(r.BlockDevice(8, 0, 500, 300), r.BlockDevice(8, 16, None, 20)),
        read_bps=(r.BlockDevice(8, 0, 600),),
        write_bps=(r.BlockDevice(8, 0, 0),),
        read_iops=(r.BlockDevice(8, 0, 1 << 63),),
        write_iops=(r.BlockDevice(8, 16, 300),),
    ),
    hugepages=(("2MB", 1 << 22), ("1GB", 0)),
    rdma=(r.RdmaLimit("mlx5_1", 3, 10000), r.RdmaLimit("rxe3", None, 0)),
    network_class=1048577,
    network_priorities=(("eth0", 500),),
    unified=(("io.max", "259:0 rbps=1"),),
)
LINUX = r.Linux(
    namespaces=(
        r.Namespace("network", "/proc/1/ns/net"),
        *(r.Namespace(kind) for kind in ("pid", "mount", "ipc", "uts", "user", "cgroup", "time")),
    ),
    devices=(r.Device("/dev/fuse", "c", 10, 229, 0o600, 1, 2), r.Device("/dev/pipe", "p")),
    resources=RESOURCES,
    cgroups_path="/bayplan/x",
    rootfs_propagation="slave",
    seccomp=CUSTOM,
    sysctl=(("net.ipv4.ip_forward", "1"),),
    masked_paths=("/proc/kcore",),
    readonly_paths=("/proc/sys",),
    uid_mappings=IDS,
    gid_mappings=IDS,
    time_offsets=(("monotonic", -7, 5), ("boottime", 86400, 999_999_999)),
    personality="LINUX32",
    mount_label="system_u:object_r:container_file_t:s0",
    intel_rdt=r.IntelRdt("group", "L3:0=7f0", "MB:0=20", True, True),
)
FULL = r.Config(
    process=PROCESS,
    root=r.Root("/rootfs", readonly=True),
    hostname="box",
    domainname="example.org",
    mounts=(
        r.Mount("/proc", "proc", "proc", ("nosuid",)),
        r.Mount("/data", "bind", "/srv/data", ("rbind", "ro"), uid_mappings=IDS, gid_mappings=IDS),
    ),
    linux=LINUX,
    annotations=(("a", "b"), ("org.systemd.property.CollectMode", "'inactive-or-failed'")),
    init=True,
    hooks=r.Hooks((HOOK,), (HOOK,), (HOOK, r.Hook("/bin/true")), (HOOK,), (HOOK,), (HOOK,)),
)
SMALL = {"ociVersion": "1.0.0", "process": {"args": ["sh"], "cwd": "/"}, "root": {"path": "rootfs"}}


def full_document() -> dict[str, Any]:
    """Every member of the specification, as it comes out of a file."""
    document: dict[str, Any] = json.loads(json.dumps(bundle_document.config_document(FULL)))
    return document


def changed(path: str, value: object) -> dict[str, Any]:
    """The full document with the member at `path` ("a.b[0].c") set to `value`."""
    document = full_document()
    at: Any = document
    steps: list[Any] = [int(step[:-1]) if step.endswith("]") else step for step in path.replace("[", ".").split(".")]
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    return document


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        FULL._replace(linux=LINUX._replace(seccomp=r.Seccomp("default"))),
        r.Config(r.Process(("x",)), r.Root("/")),
        r.Config(r.Process(("x",), cpu_affinity=r.CpuAffinity()), r.Root("/"), linux=r.Linux(intel_rdt=r.IntelRdt())),
    ],
    ids=["full", "built-in filter", "least", "empty objects"],
)
def test_a_configuration_survives_its_document(config: r.Config) -> None:
    document = json.loads(json.dumps(bundle_document.config_document(config)))
    assert bundle_parser.parse_config(document) == config, "parse_config undoes config_document, through JSON"


def test_the_full_configuration_says_something_in_every_field() -> None:
    left_out = {"beneath", "type"}  # the one is not part of the document, of the other only a bind can have mappings
    for value in (FULL, PROCESS, PROCESS.user, RESOURCES, RESOURCES.block_io, LINUX, CUSTOM, LINUX.intel_rdt, FULL.mounts[1], HOOK):
        assert value is not None
        same = [name for name, default in value._field_defaults.items() if getattr(value, name) == default]
        assert not set(same) - left_out, f"{type(value).__name__} is tried with another {', '.join(same)} than the default"


def test_a_process_and_resources_are_read_on_their_own() -> None:
    user = PROCESS.user._replace(username="", additional_groups=())  # annotations, which only the whole document has
    assert bundle_parser.parse_process(bundle_document.process_document(PROCESS)) == PROCESS._replace(user=user), "as exec takes it"
    assert bundle_parser.parse_resources(bundle_document.resources_document(RESOURCES)) == RESOURCES, "as update takes them"


def test_an_unlimited_rlimit_is_all_bits_set_in_the_document() -> None:
    assert bundle_document.config_document(FULL)["process"]["rlimits"][0]["hard"] == 2**64 - 1, "RLIM_INFINITY as other runtimes read it"


def test_unknown_members_are_ignored_everywhere() -> None:
    document = full_document()

    def add(value: object) -> None:
        inner: list[object] = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        for each in inner:
            add(each)
        if isinstance(value, dict) and not {"a", "net.ipv4.ip_forward", "io.max", "mlx5_1", "monotonic"} & set(value):
            value["x-unknown"] = {"y": 1}

    add(document)
    assert bundle_parser.parse_config(document) == FULL, "config.md, Extensibility: no error for an unknown property"


def test_null_is_as_good_as_absent() -> None:
    absent = ("domainname", "mounts", "linux", "hooks", "annotations")
    assert bundle_parser.parse_config(SMALL | dict.fromkeys(absent)) == bundle_parser.parse_config(SMALL), "as for runtimes in Go"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": 0, "swap": 0, "reservation": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0}}, r.Resources()),
        ({"pids": {"limit": 0}, "network": {"classID": 0}, "blockIO": {"weight": 0}}, r.Resources()),
        ({"memory": {"swappiness": 2**64 - 1}}, r.Resources()),
        (
            {"devices": [{"allow": True, "type": "c", "major": 7, "minor": -1, "access": "m"}]},
            r.Resources(devices=(r.DeviceRule(True, "c", 7, None, "m"),)),
        ),
    ],
    ids=["zeros", "more zeros", "minus one, unsigned", "any minor"],
)
def test_other_programs_spellings_of_nothing_are_understood(resources: dict[str, Any], expected: r.Resources) -> None:
    assert bundle_parser.parse_resources(resources) == expected, "as runc takes what Docker and Podman write"


def test_a_device_mode_with_its_type_and_a_relative_destination_are_understood() -> None:
    device = bundle_parser.parse_config(changed("linux.devices[0].fileMode", 0o20660)).linux.devices[0]
    assert device.file_mode == 0o660, "the type of the file is not part of its mode"
    assert bundle_parser.parse_config(changed("mounts[0].destination", "proc")) == FULL, "deprecated, and beginning at /"


def test_the_options_make_a_mount_a_bind() -> None:
    for options in (["bind"], ["ro", "rbind"]):
        mount = bundle_parser.parse_config({**SMALL, "mounts": [{"destination": "/x", "source": "/y", "type": "none", "options": options}]})
        assert mount.mounts[0].type == "bind", "whatever its type says, as runc has it"


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.2.1+build", "1.9.0"])
def test_every_version_with_the_major_number_1_is_read(version: str) -> None:
    assert bundle_parser.parse_config({**SMALL, "ociVersion": version}).root.path == "rootfs", "a minor version only adds"


def test_a_document_that_is_no_object_is_invalid() -> None:
    for document in (None, [], "x", 5):
        with pytest.raises(Invalid, match=r"^reading config\.json: an object was expected"):
            bundle_parser.parse_config(document)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("ociVersion", None, "it is missing"),
        ("ociVersion", "2.0.0", '"2.0.0" is of another major version'),
        ("ociVersion", "latest", "is not a version"),
        ("process", None, "it is missing"),
        ("process.args", [], "it is empty"),
        ("process.args", "sh", 'a list was expected, not "sh"'),
        ("process.args[0]", "", "it is empty"),
        ("process.args[1]", "a\0b", "contains a null character"),
        ("process.args[1]", "\ud800", "half of a surrogate pair"),
        ("process.env[1]", "LONELY", '"LONELY" is not NAME=value'),
        ("process.env[1]", "=x", "is not NAME=value"),
        ("process.cwd", "srv", '"srv" is not absolute'),
        ("process.cwd", "", "it is empty"),
        ("process.terminal", 1, "true or false was expected, not 1"),
        ("process.consoleSize.height", 70000, "a number from 0 to 65535 was expected"),
        ("process.consoleSize.width", None, "it is missing"),
        ("process.user", [], "an object was expected, not a list"),
        ("process.user.uid", -1, "a number from 0 to 4294967294 was expected, not -1"),
        ("process.user.gid", 2**32 - 1, "a number from 0 to 4294967294 was expected"),
        ("process.user.additionalGids[1]", 1.5, "a whole number was expected, not 1.5"),
        ("process.user.umask", 0o1000, "a number from 0 to 511 was expected"),
        ("process.capabilities.ambient[0]", "chown", '"chown" is not the name of a capability'),
        ("process.capabilities.bounding[0]", "CAP_", "is not the name of a capability"),
        ("process.rlimits[0].type", "RLIMIT_MAGIC", "is none of RLIMIT_AS, "),
        ("process.rlimits[1].type", "RLIMIT_NOFILE", "RLIMIT_NOFILE is there twice"),
        ("process.rlimits[1].soft", 1, "1 is above the hard limit, 0"),
        ("process.rlimits[1].hard", 2**64, "a number from 0 to 18446744073709551615 was expected"),
        ("process.oomScoreAdj", 1001, "a number from -1000 to 1000 was expected"),
        ("process.scheduler.policy", "SCHED_MAGIC", "is none of SCHED_BATCH"),
        ("process.scheduler.nice", 20, "a number from -20 to 19 was expected"),
        ("process.scheduler.priority", 5, "SCHED_DEADLINE has none"),
        ("process.scheduler", {"policy": "SCHED_BATCH", "period": 5}, "SCHED_BATCH has none"),
        ("process.scheduler.flags[0]", "SCHED_FLAG_X", "is none of"),
        ("process.ioPriority.class", "IOPRIO_CLASS_NONE", "is none of IOPRIO_CLASS_BE"),
        ("process.ioPriority.priority", 8, "a number from 0 to 7 was expected"),
        ("process.execCPUAffinity.final", "all", "is not a list of processors"),
        ("root", None, "it is missing"),
        ("root.path", "", "it is empty"),
        ("root.readonly", "yes", 'true or false was expected, not "yes"'),
        ("mounts[0].destination", None, "it is missing"),
        ("mounts[0].type", None, "neither bind nor rbind"),
        ("mounts[0].options", "ro", 'a list was expected, not "ro"'),
        ("mounts[1].source", None, "it is missing"),
        ("mounts[1].gidMappings", [], "it is missing"),
        ("mounts[1].uidMappings[0].size", 0, "a number from 1 to 4294967295 was expected"),
        ("hooks.prestart[0].path", "hook", '"hook" is not absolute'),
        ("hooks.createContainer[1].timeout", 0, "a number from 1 to"),
        ("hooks.poststop[0].env[0]", "A", "is not NAME=value"),
        ("annotations.a", 5, "a string was expected, not 5"),
        ("linux.namespaces[1].type", "magic", '"magic" is none of cgroup, ipc, mount'),
        ("linux.namespaces[1].type", "network", "network is there twice"),
        ("linux.namespaces[0].path", "net", "is not absolute"),
        ("linux.devices[0].type", "d", "is none of b, c, p, u"),
        ("linux.devices[0].path", "dev/fuse", "is not the absolute path"),
        ("linux.devices[0].path", "/dev/..", "is not the absolute path"),
        ("linux.devices[0].major", None, "it is missing"),
        ("linux.cgroupsPath", "/a/../../b", "leads out of its parent"),
        ("linux.rootfsPropagation", "public", "is none of private"),
        ("linux.sysctl", {"net.x": 1}, "linux.sysctl.net.x: a string was expected, not 1"),
        ("linux.sysctl", {"kernel.domainname": "example.net"}, ".kernel.domainname: domainname says it already"),
        ("linux.uidMappings[0].hostID", None, "it is missing"),
        ("linux.uidMappings", None, "a new user namespace needs it"),
        ("linux.timeOffsets", {"realtime": {"secs": 1}}, "linux.timeOffsets.realtime: "),
        ("linux.timeOffsets.monotonic.nanosecs", 10**9, "a number from 0 to 999999999 was expected"),
        ("linux.personality.domain", "BSD", "is none of LINUX, LINUX32"),
        ("linux.personality.flags", ["X"], "leave them out"),
        ("linux.intelRdt.closID", "..", "is not the name of a directory"),
        ("linux.intelRdt.memBwSchema", "L3:0=1", "begins with MB:"),
        ("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY", "SCMP_ACT_NOTIFY"),
        ("linux.seccomp.defaultErrnoRet", 4096, "a number from 0 to 4095 was expected"),
        ("linux.seccomp.architectures[0]", "SCMP_ARCH_VAX", "is none of SCMP_ARCH_AARCH64"),
        ("linux.seccomp.flags[0]", "X", "is none of SECCOMP_FILTER_FLAG_LOG"),
        ("linux.seccomp.listenerPath", None, "SCMP_ACT_NOTIFY needs somebody"),
        ("linux.seccomp.syscalls[0].names", [], "it is empty"),
        ("linux.seccomp.syscalls[0].errnoRet", 5, "SCMP_ACT_ALLOW returns no error number"),
        ("linux.seccomp.syscalls[0].args[0].index", 6, "a number from 0 to 5 was expected"),
        ("linux.seccomp.syscalls[0].args[0].op", "==", "is none of SCMP_CMP_EQ"),
        ("linux.seccomp.syscalls[1].names[0]", 7, "a string was expected, not 7"),
        ("linux.resources.memory.limit", "x", 'a whole number was expected, not "x"'),
        ("linux.resources.memory.limit", True, "a whole number was expected, not true"),
        ("linux.resources.memory.limit", 2**63, "a number from -1 to 9223372036854775807 was expected"),
        ("linux.resources.memory.limit", 1 << 9000, "a number of that size"),
        ("linux.resources.memory.swappiness", 101, "a number from 0 to 100 was expected"),
        ("linux.resources.memory.useHierarchy", False, "leave this out"),
        ("linux.resources.cpu.burst", 60_001, "is more than the quota"),
        ("linux.resources.cpu.idle", 2, "a number from 0 to 1 was expected"),
        ("linux.resources.pids.limit", None, "it is missing"),
        ("linux.resources.devices[1].access", "rwx", "has other letters"),
        ("linux.resources.devices[0].allow", None, "it is missing"),
        ("linux.resources.blockIO.weight", 9, "a number from 10 to 1000 was expected"),
        ("linux.resources.blockIO.weightDevice[0]", {"major": 8, "minor": 0}, "it is missing, and so is leafWeight"),
        ("linux.resources.blockIO.throttleReadBpsDevice[0].rate", None, "it is missing"),
        ("linux.resources.hugepageLimits[0].pageSize", "../2MB", "is not a size"),
        ("linux.resources.rdma.mlx5_1", {}, "it is missing, and so is hcaObjects"),
        ("linux.resources.network.priorities[0].name", "eth0 1", "is not the name of an interface"),
        ("linux.resources.unified", {"../cgroup.procs": "1"}, "is not the name of a cgroup's file"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(path: str, value: object, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        bundle_parser.parse_config(changed(path, value))
    message = str(caught.value)
    assert message.startswith(f"reading config.json: {path}") and said in message, "the member, and what is the matter with it"


@pytest.mark.parametrize(
    ("kind", "path"),
    [("uts", "hostname"), ("mount", "linux.maskedPaths"), ("user", "linux.uidMappings"), ("time", "linux.timeOffsets")],
)
def test_what_acts_on_a_namespace_needs_one(kind: str, path: str) -> None:
    document = changed("linux.namespaces", [{"type": n.type} for n in LINUX.namespaces if n.type != kind])
    with pytest.raises(Invalid, match=f"^reading config.json: {path}: it needs a namespace of type {kind}"):
        bundle_parser.parse_config(document)


def test_two_filters_at_once_are_refused() -> None:
    with pytest.raises(Invalid, match=r"linux\.seccomp: the annotation bayplan\.seccomp"):
        bundle_parser.parse_config(changed("annotations", {r.SECCOMP_ANNOTATION: "default"}))


def test_reading_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from bayplan.model import bundle_parser, jsontext\n"
        "bundle_parser.parse_config(jsontext.loads(sys.stdin.read()))\n"
        "print(*sorted({'json', 're', 'enum', 'typing', 'functools', 'collections'} & set(sys.modules)))"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(RUNTIME)]
    done = subprocess.run(command, input=json.dumps(full_document()), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [], "a start pays for nothing that reading does not need"
