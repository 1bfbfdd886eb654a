"""The OCI runtime-spec 1.2 `config.json`, as far as a Linux container of ours needs it.

`Config` is the value, `config_document` its JSON form, `parse_config` the way back. Names are the
specification's, in snake case. What the specification nests and we never vary alone is flat here
(`Resources`), because each NamedTuple costs 0.2 ms at every start.

Two things go beyond the specification, both as annotations, which it reserves for that:
`bayplan.user` is a user and group as an image's config spells them ("app", "1000:staff"), resolved
inside the root file system when the process starts; `bayplan.seccomp` is "default" where our own
table is meant. `bayplan.init` and `bayplan.profile`-like settings of the engine are not ours to know.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

OCI_VERSION = "1.2.0"
USER_ANNOTATION = "bayplan.user"
INIT_ANNOTATION = "bayplan.init"
SECCOMP_ANNOTATION = "bayplan.seccomp"
_UINT64 = 1 << 64
NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")

Document: TypeAlias = "Mapping[str, Any]"


class User(NamedTuple):
    """Who the process is. `username`, if not empty, is an image's spelling (`user`, `uid`, `uid:gid`, `name:group`)
    that overrides `uid` and `gid`; `additional_gids` adds to the groups of the image's own /etc/group;
    `additional_groups` are names or numbers (`--group-add`) looked up in it."""

    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    username: str = ""
    additional_groups: tuple[str, ...] = ()
    umask: int = 0o022


class Capabilities(NamedTuple):
    """Capability names with their `CAP_` prefix, upper case."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(NamedTuple):
    """`type` as in `RLIMIT_NOFILE`; -1 is unlimited."""

    type: str
    soft: int
    hard: int


class Process(NamedTuple):
    """`args[0]` is looked up in the environment's PATH inside the container; `env` entries are `NAME=value`.
    `console_size` is (height, width)."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str = ""


class Root(NamedTuple):
    path: str
    readonly: bool = False


class Mount(NamedTuple):
    """One entry of `mounts`, applied in order. `type` is a file system or "bind"; `options` as mount(8) spells them
    (`rbind`, `ro`, `rro`, `rprivate`, `nosuid`, `mode=1777`, ...).

    `beneath`, if given, is a directory that containers have written to, and that the way to a bind's `source` inside it must not
    leave. It is not part of the specification's document.
    """

    destination: str
    type: str = "bind"
    source: str = ""
    options: tuple[str, ...] = ()
    beneath: str = ""


class Namespace(NamedTuple):
    """A namespace to make, or, with a `path`, to join. A type that is not listed is shared with the host."""

    type: str
    path: str = ""


class Device(NamedTuple):
    """A node to make in the container. `type` is "c", "b", "u" or "p"."""

    path: str
    type: str
    major: int
    minor: int
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


class DeviceRule(NamedTuple):
    """One line of the device controller's list; the last that matches wins.

    None matches every number; `type` "a" every type."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Resources(NamedTuple):
    """Limits; None leaves the kernel's default. Bytes, microseconds; `memory_swap` is memory plus swap, -1 unlimited;
    `pids_limit` -1 unlimited; `cpuset_*` are lists such as "0-2,4"."""

    memory_limit: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    devices: tuple[DeviceRule, ...] = ()


class SyscallRule(NamedTuple):
    """One entry of a custom profile's `syscalls`.

    `args` holds (index, value, value_two, op) with op as `SCMP_CMP_EQ`."""

    names: tuple[str, ...]
    action: str
    errno: int | None = None
    args: tuple[tuple[int, int, int, str], ...] = ()


class Seccomp(NamedTuple):
    """`profile` "default" means the table in kernel/, and the rest is empty;
    "custom" means that the rest is the filter."""

    profile: str = "default"
    default_action: str = ""
    default_errno: int | None = None
    architectures: tuple[str, ...] = ()
    syscalls: tuple[SyscallRule, ...] = ()


class Linux(NamedTuple):
    """`cgroups_path` is relative to each controller's root (`/bayplan-1a2b/ID`), or `slice:prefix:name` under systemd.
    `seccomp` None means no filter."""

    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = Resources()
    cgroups_path: str = ""
    rootfs_propagation: str = "private"
    seccomp: Seccomp | None = None
    sysctl: tuple[tuple[str, str], ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()


class Config(NamedTuple):
    """The whole document. `init` asks for a small process 1 that forwards signals and reaps (`--init`)."""

    process: Process
    root: Root
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    linux: Linux = Linux()
    annotations: tuple[tuple[str, str], ...] = ()
    init: bool = False


def config_document(config: Config) -> dict[str, Any]:
    """`config` as the JSON object of the specification, without members that say nothing."""
    annotations = dict(config.annotations)
    if config.process.user.username or config.process.user.additional_groups:
        annotations[USER_ANNOTATION] = "\n".join((config.process.user.username, *config.process.user.additional_groups))
    if config.init:
        annotations[INIT_ANNOTATION] = "true"
    if config.linux.seccomp and config.linux.seccomp.profile == "default":
        annotations[SECCOMP_ANNOTATION] = "default"
    return {
        "ociVersion": OCI_VERSION,
        "process": process_document(config.process),
        "root": {"path": config.root.path, "readonly": config.root.readonly},
        **_present(hostname=config.hostname, domainname=config.domainname),
        "mounts": [
            _present(destination=m.destination, type=m.type, source=m.source, options=list(m.options))
            for m in config.mounts
        ],
        "linux": _linux_document(config.linux),
        **_present(annotations=annotations),
    }


def parse_config(document: object) -> Config:
    """The way back from `config_document`, and from another tool's bundle.

    Unknown members are ignored, as the specification demands; a wrong type or a missing member is Invalid.
    """
    given: Any = document
    try:
        return _parse_config(given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"reading config.json: {type(error).__name__}: {error}") from error


def process_document(process: Process) -> dict[str, Any]:
    """`process` as the specification's `process` object, which is also what `exec` takes."""
    user, size = process.user, process.console_size
    return {
        **_present(terminal=process.terminal),
        **_present(consoleSize={"height": size[0], "width": size[1]} if size else None),
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "umask": user.umask,
            **_present(additionalGids=list(user.additional_gids)),
        },
        "args": list(process.args),
        **_present(env=list(process.env)),
        "cwd": process.cwd,
        "capabilities": {name: list(names) for name, names in process.capabilities._asdict().items()},
        **_present(
            rlimits=[{"type": r.type, "soft": r.soft % _UINT64, "hard": r.hard % _UINT64} for r in process.rlimits]
        ),
        "noNewPrivileges": process.no_new_privileges,
        **({} if process.oom_score_adj is None else {"oomScoreAdj": process.oom_score_adj}),
        **_present(apparmorProfile=process.apparmor_profile),
    }


def _present(**members: object) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _given(**members: object) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None and value != ""}


def _linux_document(linux: Linux) -> dict[str, Any]:
    custom = linux.seccomp if linux.seccomp and linux.seccomp.profile != "default" else None
    return {
        "namespaces": [_present(type=n.type, path=n.path) for n in linux.namespaces],
        **_present(devices=[_device_document(device) for device in linux.devices]),
        **_present(resources=resources_document(linux.resources)),
        **_present(cgroupsPath=linux.cgroups_path, rootfsPropagation=linux.rootfs_propagation),
        **_present(seccomp=_seccomp_document(custom) if custom else None),
        **_present(sysctl=dict(linux.sysctl)),
        **_present(maskedPaths=list(linux.masked_paths), readonlyPaths=list(linux.readonly_paths)),
    }


def _device_document(device: Device) -> dict[str, Any]:
    document = device._asdict()
    document["fileMode"] = document.pop("file_mode")
    return document


def resources_document(resources: Resources) -> dict[str, Any]:
    """`resources` as the specification's `linux.resources` object."""
    r = resources
    memory = _given(
        limit=r.memory_limit, reservation=r.memory_reservation, swap=r.memory_swap, swappiness=r.memory_swappiness
    )
    memory.update(_present(disableOOMKiller=r.oom_kill_disable))
    cpu = _given(shares=r.cpu_shares, quota=r.cpu_quota, period=r.cpu_period, cpus=r.cpuset_cpus, mems=r.cpuset_mems)
    rules = [
        {"allow": d.allow, **_given(type=d.type, major=d.major, minor=d.minor, access=d.access)} for d in r.devices
    ]
    return _present(memory=memory, cpu=cpu, pids=_given(limit=r.pids_limit), devices=rules)


def _seccomp_document(seccomp: Seccomp) -> dict[str, Any]:
    return {
        "defaultAction": seccomp.default_action,
        **_given(defaultErrnoRet=seccomp.default_errno),
        **_present(architectures=list(seccomp.architectures)),
        "syscalls": [
            {
                "names": list(rule.names),
                "action": rule.action,
                **_given(errnoRet=rule.errno),
                **_present(args=[{"index": i, "value": v, "valueTwo": w, "op": op} for i, v, w, op in rule.args]),
            }
            for rule in seccomp.syscalls
        ],
    }


def _parse_config(document: Document) -> Config:
    annotations = {str(k): str(v) for k, v in (document.get("annotations") or {}).items()}
    user = annotations.pop(USER_ANNOTATION, "").split("\n")
    init = annotations.pop(INIT_ANNOTATION, "") == "true"
    builtin = annotations.pop(SECCOMP_ANNOTATION, "") == "default"
    process = parse_process(document["process"])
    process = process._replace(user=process.user._replace(username=user[0], additional_groups=tuple(user[1:])))
    root = document["root"]
    return Config(
        process=process,
        root=Root(_text(root["path"]), bool(root.get("readonly"))),
        hostname=_text(document.get("hostname") or ""),
        domainname=_text(document.get("domainname") or ""),
        mounts=tuple(_parse_mount(mount) for mount in document.get("mounts") or ()),
        linux=_parse_linux(document.get("linux") or {}, builtin),
        annotations=tuple(annotations.items()),
        init=init,
    )


def parse_process(document: Document) -> Process:
    """A `process` object of the specification; raises KeyError, TypeError or ValueError where it is none."""
    user, size = document.get("user") or {}, document.get("consoleSize")
    return Process(
        args=_texts(document["args"]),
        env=_texts(document.get("env")),
        cwd=_text(document.get("cwd", "/")),
        user=User(
            _natural(user.get("uid", 0)),
            _natural(user.get("gid", 0)),
            tuple(_natural(gid) for gid in user.get("additionalGids") or ()),
            umask=_natural(user.get("umask", 0o022)),
        ),
        terminal=bool(document.get("terminal")),
        console_size=(_natural(size["height"]), _natural(size["width"])) if size else None,
        capabilities=Capabilities(
            **{name: _texts((document.get("capabilities") or {}).get(name)) for name in Capabilities._fields}
        ),
        rlimits=tuple(
            Rlimit(_text(r["type"]), _limit(r["soft"]), _limit(r["hard"])) for r in document.get("rlimits") or ()
        ),
        no_new_privileges=bool(document.get("noNewPrivileges")),
        oom_score_adj=_optional(document.get("oomScoreAdj")),
        apparmor_profile=_text(document.get("apparmorProfile") or ""),
    )


def _parse_mount(mount: Document) -> Mount:
    return Mount(
        _text(mount["destination"]),
        _text(mount.get("type") or "bind"),
        _text(mount.get("source") or ""),
        _texts(mount.get("options")),
    )


def _parse_linux(linux: Document, builtin: bool) -> Linux:
    custom = linux.get("seccomp")
    return Linux(
        namespaces=tuple(_parse_namespace(n) for n in linux.get("namespaces") or ()),
        devices=tuple(_parse_device(d) for d in linux.get("devices") or ()),
        resources=parse_resources(linux.get("resources") or {}),
        cgroups_path=_text(linux.get("cgroupsPath") or ""),
        rootfs_propagation=_text(linux.get("rootfsPropagation") or "private"),
        seccomp=Seccomp() if builtin else parse_seccomp(custom) if custom else None,
        sysctl=tuple((_text(k), _text(v)) for k, v in (linux.get("sysctl") or {}).items()),
        masked_paths=_texts(linux.get("maskedPaths")),
        readonly_paths=_texts(linux.get("readonlyPaths")),
    )


def _parse_namespace(document: Document) -> Namespace:
    if document["type"] not in NAMESPACE_TYPES:
        raise ValueError(f"namespace type {document['type']!r} is not known")
    return Namespace(document["type"], _text(document.get("path") or ""))


def _parse_device(document: Document) -> Device:
    return Device(
        _text(document["path"]),
        _text(document["type"]),
        _natural(document.get("major", 0)),
        _natural(document.get("minor", 0)),
        _natural(document.get("fileMode", 0o666)),
        _natural(document.get("uid", 0)),
        _natural(document.get("gid", 0)),
    )


def parse_resources(document: Document) -> Resources:
    """A `linux.resources` object; raises KeyError, TypeError or ValueError where it is none."""
    memory, cpu = document.get("memory") or {}, document.get("cpu") or {}
    return Resources(
        memory_limit=_optional(memory.get("limit")),
        memory_reservation=_optional(memory.get("reservation")),
        memory_swap=_optional(memory.get("swap")),
        memory_swappiness=_optional(memory.get("swappiness")),
        oom_kill_disable=bool(memory.get("disableOOMKiller")),
        cpu_shares=_optional(cpu.get("shares")),
        cpu_quota=_optional(cpu.get("quota")),
        cpu_period=_optional(cpu.get("period")),
        cpuset_cpus=_text(cpu.get("cpus") or ""),
        cpuset_mems=_text(cpu.get("mems") or ""),
        pids_limit=_optional((document.get("pids") or {}).get("limit")),
        devices=tuple(_parse_rule(rule) for rule in document.get("devices") or ()),
    )


def _parse_rule(document: Document) -> DeviceRule:
    return DeviceRule(
        bool(document["allow"]),
        _text(document.get("type") or "a"),
        _optional(document.get("major")),
        _optional(document.get("minor")),
        _text(document.get("access") or "rwm"),
    )


def parse_seccomp(document: Document) -> Seccomp:
    """A `linux.seccomp` object; raises KeyError, TypeError or ValueError where it is none."""
    return Seccomp(
        "custom",
        _text(document["defaultAction"]),
        _optional(document.get("defaultErrnoRet")),
        _texts(document.get("architectures")),
        tuple(_parse_syscall(rule) for rule in document.get("syscalls") or ()),
    )


def _parse_syscall(rule: Document) -> SyscallRule:
    args = tuple(
        (_natural(arg["index"]), _natural(arg["value"]), _natural(arg.get("valueTwo", 0)), _text(arg["op"]))
        for arg in rule.get("args") or ()
    )
    return SyscallRule(_texts(rule["names"]), _text(rule["action"]), _optional(rule.get("errnoRet")), args)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {value!r}")
    if "\0" in value:
        raise ValueError(f"{value!r} contains a null character")
    return value


def _texts(values: Sequence[object] | None) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"a list was expected, not {values!r}")
    return tuple(_text(value) for value in values or ())


def _optional(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number was expected, not {value!r}")
    return value


def _natural(value: object) -> int:
    number = _optional(value)
    if number is None or number < 0:
        raise ValueError(f"a number from 0 was expected, not {value!r}")
    return number


def _limit(value: object) -> int:
    # the specification's "unlimited" is RLIM_INFINITY, all 64 bits set
    return -1 if value == _UINT64 - 1 else _natural(value)
