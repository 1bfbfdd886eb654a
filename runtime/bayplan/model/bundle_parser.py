"""The OCI runtime-spec 1.2 `config.json`, read: bundle_document.py is the way back."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.runtime import (
    INIT_ANNOTATION,
    NAMESPACE_TYPES,
    SECCOMP_ANNOTATION,
    USER_ANNOTATION,
    Capabilities,
    Config,
    Device,
    DeviceRule,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    SyscallRule,
    User,
)
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

_UINT64 = 1 << 64
Document: TypeAlias = "Mapping[str, Any]"


def parse_config(document: object) -> Config:
    """The way back from `config_document`, and from another tool's bundle.

    Unknown members are ignored, as the specification demands; a wrong type or a missing member is Invalid.
    """
    given: Any = document
    try:
        return _parse_config(given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(f"reading config.json: {type(error).__name__}: {error}") from error


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
        capabilities=Capabilities(**{name: _texts((document.get("capabilities") or {}).get(name)) for name in Capabilities._fields}),
        rlimits=tuple(Rlimit(_text(r["type"]), _limit(r["soft"]), _limit(r["hard"])) for r in document.get("rlimits") or ()),
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
