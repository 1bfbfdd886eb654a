"""A runtime-spec Config as the JSON object of the specification. bundle_parser.py is the way back."""

from __future__ import annotations

from bayplan.model.runtime import (
    INIT_ANNOTATION,
    OCI_VERSION,
    SECCOMP_ANNOTATION,
    USER_ANNOTATION,
    Config,
    Device,
    Linux,
    Process,
    Resources,
    Seccomp,
)
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_UINT64 = 1 << 64


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
        "mounts": [_present(destination=m.destination, type=m.type, source=m.source, options=list(m.options)) for m in config.mounts],
        "linux": _linux_document(config.linux),
        **_present(annotations=annotations),
    }


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
        **_present(rlimits=[{"type": r.type, "soft": r.soft % _UINT64, "hard": r.hard % _UINT64} for r in process.rlimits]),
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
    memory = _given(limit=r.memory_limit, reservation=r.memory_reservation, swap=r.memory_swap, swappiness=r.memory_swappiness)
    memory.update(_present(disableOOMKiller=r.oom_kill_disable))
    cpu = _given(shares=r.cpu_shares, quota=r.cpu_quota, period=r.cpu_period, cpus=r.cpuset_cpus, mems=r.cpuset_mems)
    rules = [{"allow": d.allow, **_given(type=d.type, major=d.major, minor=d.minor, access=d.access)} for d in r.devices]
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
