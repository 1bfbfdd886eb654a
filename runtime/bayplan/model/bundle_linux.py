"""`linux` of the runtime specification 1.2, read (config-linux.md); its `resources` are bundle_resources.py's."""

from __future__ import annotations

from bayplan.model.bundle_resources import read_resources
from bayplan.model.fields import INT64, UINT32, UINT64, Fields, shown
from bayplan.model.runtime import (
    NAMESPACE_TYPES,
    Device,
    IdMapping,
    IntelRdt,
    Linux,
    Namespace,
    Seccomp,
    SyscallRule,
)

PROPAGATIONS = ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")
PERSONALITIES = ("LINUX", "LINUX32")
CLOCKS = ("monotonic", "boottime")
DEVICE_TYPES = ("b", "c", "p", "u")
SECCOMP_ACTIONS = (
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
)  # fmt: skip
SECCOMP_OPERATORS = tuple(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
SECCOMP_FLAGS = tuple(f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"))
SECCOMP_ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        "X86 X86_64 X32 ARM AARCH64 LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 "
        "PPC PPC64 PPC64LE RISCV64 S390 S390X SH SHEB"
    ).split()
)
_ERRNO_ACTIONS = {"SCMP_ACT_ERRNO": range(1 << 12), "SCMP_ACT_TRACE": UINT64}  # the kernel cuts an error number to 4095
_TYPE_BITS = 0o170000
_ARGUMENTS = range(6)
_DEVICE_NUMBERS = range(1 << 32)
_NANOSECONDS = range(1_000_000_000)


def read_linux(linux: Fields, *, builtin: bool) -> Linux:
    """`builtin` is our own table of system calls. Invalid, with the path of what is wrong, for what is no `linux` object."""
    if builtin and linux.has("seccomp"):
        raise linux.wrong("seccomp", "the annotation bayplan.seccomp asks for another filter; leave one of them out")
    return Linux(
        namespaces=_read_namespaces(linux),
        devices=tuple(_read_device(device) for device in linux.objects("devices")),
        resources=read_resources(linux.inside("resources")),
        cgroups_path=_read_cgroups_path(linux),
        rootfs_propagation=linux.choice("rootfsPropagation", PROPAGATIONS) or "private",
        seccomp=Seccomp() if builtin else read_seccomp(linux.inside("seccomp")) if linux.has("seccomp") else None,
        sysctl=linux.pairs("sysctl"),
        masked_paths=linux.texts("maskedPaths"),
        readonly_paths=linux.texts("readonlyPaths"),
        uid_mappings=read_mappings(linux, "uidMappings"),
        gid_mappings=read_mappings(linux, "gidMappings"),
        time_offsets=tuple(_read_offset(linux, clock, offset) for clock, offset in linux.entries("timeOffsets")),
        personality=_read_personality(linux),
        mount_label=linux.text("mountLabel"),
        intel_rdt=_read_intel_rdt(linux.inside("intelRdt")) if linux.has("intelRdt") else None,
    )


def _read_namespaces(linux: Fields) -> tuple[Namespace, ...]:
    namespaces: dict[str, Namespace] = {}
    for place, namespace in enumerate(linux.objects("namespaces")):
        namespace.need("type")
        kind, path = namespace.choice("type", NAMESPACE_TYPES), namespace.text("path")
        if kind in namespaces:
            raise linux.wrong(f"namespaces[{place}].type", f"{kind} is there twice")
        if path and not path.startswith("/"):
            raise namespace.wrong("path", f"{shown(path)} is not absolute")
        namespaces[kind] = Namespace(kind, path)
    return tuple(namespaces.values())


def _read_device(device: Fields) -> Device:
    device.need("path", "type")
    kind, path, mode = device.choice("type", DEVICE_TYPES), device.text("path"), device.number("fileMode", UINT32)
    if kind != "p":
        device.need("major", "minor")
    if not path.startswith("/") or not path.rpartition("/")[2].strip("."):
        raise device.wrong("path", f"{shown(path)} is not the absolute path of a device")
    return Device(
        path,
        kind,
        device.whole("major", _DEVICE_NUMBERS),
        device.whole("minor", _DEVICE_NUMBERS),
        0o666 if mode is None else mode & 0o7777,  # some add the type to it, as stat(2) has it, or Go's own bits
        device.whole("uid", UINT32),
        device.whole("gid", UINT32),
    )


def read_mappings(given: Fields, name: str) -> tuple[IdMapping, ...]:
    """The list `name` of ranges of ids; that they do not overlap is the kernel's to say."""
    mappings = given.objects(name)
    for mapping in mappings:
        mapping.need("containerID", "hostID", "size")
    return tuple(
        IdMapping(m.whole("containerID", UINT32), m.whole("hostID", UINT32), m.whole("size", range(1, UINT32.stop))) for m in mappings
    )


def _read_cgroups_path(linux: Fields) -> str:
    path = linux.text("cgroupsPath")
    if ".." in path.split("/"):
        raise linux.wrong("cgroupsPath", f"{shown(path)} leads out of its parent")
    return path


def _read_offset(linux: Fields, clock: str, offset: Fields) -> tuple[str, int, int]:
    if clock not in CLOCKS:
        raise linux.inside("timeOffsets").wrong(clock, "of the clocks, monotonic and boottime have an offset")
    return clock, offset.whole("secs", INT64), offset.whole("nanosecs", _NANOSECONDS)


def _read_personality(linux: Fields) -> str:
    personality = linux.inside("personality")
    if linux.has("personality"):
        personality.need("domain")
    if personality.texts("flags"):
        raise personality.wrong("flags", "the specification defines no flags; leave them out")
    return personality.choice("domain", PERSONALITIES)


def _read_intel_rdt(rdt: Fields) -> IntelRdt:
    group, bandwidth = rdt.text("closID"), rdt.text("memBwSchema")
    if "/" in group or group in (".", ".."):
        raise rdt.wrong("closID", f"{shown(group)} is not the name of a directory")
    if bandwidth and (not bandwidth.startswith("MB:") or "\n" in bandwidth):
        raise rdt.wrong("memBwSchema", f"{shown(bandwidth)} is not one line that begins with MB:")
    return IntelRdt(group, rdt.text("l3CacheSchema"), bandwidth, rdt.flag("enableCMT"), rdt.flag("enableMBM"))


def read_seccomp(seccomp: Fields) -> Seccomp:
    """Invalid, with the path of what is wrong, for what is no `linux.seccomp` object. Unknown system calls are not looked for."""
    seccomp.need("defaultAction")
    default = seccomp.choice("defaultAction", SECCOMP_ACTIONS)
    rules = tuple(_read_rule(rule) for rule in seccomp.objects("syscalls"))
    listener, metadata = seccomp.text("listenerPath"), seccomp.text("listenerMetadata")
    if default == "SCMP_ACT_NOTIFY":
        raise seccomp.wrong("defaultAction", "SCMP_ACT_NOTIFY would ask about the very call that hands on the filter's descriptor")
    if not listener and any(rule.action == "SCMP_ACT_NOTIFY" for rule in rules):
        raise seccomp.wrong("listenerPath", "it is missing, and SCMP_ACT_NOTIFY needs somebody who is asked")
    if metadata and not listener:
        raise seccomp.wrong("listenerMetadata", "it is there without a listenerPath")
    return Seccomp(
        "custom",
        default,
        _read_errno(seccomp, "defaultErrnoRet", default),
        seccomp.choices("architectures", SECCOMP_ARCHITECTURES),
        rules,
        seccomp.choices("flags", SECCOMP_FLAGS),
        listener,
        metadata,
    )


def _read_rule(rule: Fields) -> SyscallRule:
    rule.need("names", "action")
    names, action = rule.texts("names"), rule.choice("action", SECCOMP_ACTIONS)
    if not names:
        raise rule.wrong("names", "it is empty")
    if action == "SCMP_ACT_NOTIFY" and "write" in names:
        raise rule.wrong("action", "SCMP_ACT_NOTIFY for write would stop the container before anybody can be asked")
    args = tuple(_read_argument(argument) for argument in rule.objects("args"))
    return SyscallRule(names, action, _read_errno(rule, "errnoRet", action), args)


def _read_errno(given: Fields, name: str, action: str) -> int | None:
    if given.has(name) and action not in _ERRNO_ACTIONS:
        raise given.wrong(name, f"{action} returns no error number")
    return given.number(name, _ERRNO_ACTIONS.get(action, UINT64))


def _read_argument(argument: Fields) -> tuple[int, int, int, str]:
    argument.need("index", "value", "op")
    index, value = argument.whole("index", _ARGUMENTS), argument.whole("value", UINT64)
    return index, value, argument.whole("valueTwo", UINT64), argument.choice("op", SECCOMP_OPERATORS)
