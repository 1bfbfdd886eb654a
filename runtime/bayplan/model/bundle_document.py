"""A runtime-spec Config as the JSON object of the specification. bundle_parser.py is the way back."""

from __future__ import annotations

from bayplan.model.runtime import (
    HOOK_NAMES,
    INIT_ANNOTATION,
    OCI_VERSION,
    SECCOMP_ANNOTATION,
    USER_ANNOTATION,
    BlockDevice,
    BlockIo,
    Config,
    Device,
    Hook,
    Hooks,
    IdMapping,
    IntelRdt,
    Linux,
    Mount,
    Process,
    Resources,
    Scheduler,
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
        "mounts": [_mount_document(mount) for mount in config.mounts],
        "linux": _linux_document(config.linux),
        **_present(hooks=_hooks_document(config.hooks) if config.hooks else None, annotations=annotations),
    }


def process_document(process: Process) -> dict[str, Any]:
    """`process` as the specification's `process` object, which is also what `exec` takes."""
    user, size, io, affinity = process.user, process.console_size, process.io_priority, process.cpu_affinity
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
        **_given(oomScoreAdj=process.oom_score_adj),
        **_present(apparmorProfile=process.apparmor_profile, selinuxLabel=process.selinux_label),
        **_given(scheduler=_scheduler_document(process.scheduler) if process.scheduler else None),
        **_given(ioPriority={"class": io.type, "priority": io.priority} if io else None),
        **_given(execCPUAffinity=_present(initial=affinity.initial, final=affinity.final) if affinity else None),
    }


def _present(**members: object) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _given(**members: object) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None and value != ""}


def _scheduler_document(scheduler: Scheduler) -> dict[str, Any]:
    document = scheduler._asdict()
    return _present(**{**document, "flags": list(scheduler.flags)})


def _mount_document(mount: Mount) -> dict[str, Any]:
    return _present(
        destination=mount.destination,
        type=mount.type,
        source=mount.source,
        options=list(mount.options),
        uidMappings=_mapping_documents(mount.uid_mappings),
        gidMappings=_mapping_documents(mount.gid_mappings),
    )


def _mapping_documents(mappings: tuple[IdMapping, ...]) -> list[dict[str, int]]:
    return [{"containerID": m.container, "hostID": m.host, "size": m.size} for m in mappings]


def _hooks_document(hooks: Hooks) -> dict[str, Any]:
    return {name: [_hook_document(hook) for hook in each] for name, each in zip(HOOK_NAMES, hooks) if each}


def _hook_document(hook: Hook) -> dict[str, Any]:
    return _present(path=hook.path, args=list(hook.args), env=list(hook.env), timeout=hook.timeout)


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
        **_present(uidMappings=_mapping_documents(linux.uid_mappings), gidMappings=_mapping_documents(linux.gid_mappings)),
        **_present(timeOffsets={clock: {"secs": seconds, "nanosecs": rest} for clock, seconds, rest in linux.time_offsets}),
        **_present(personality={"domain": linux.personality} if linux.personality else None),
        **_present(mountLabel=linux.mount_label),
        **_given(intelRdt=_intel_rdt_document(linux.intel_rdt) if linux.intel_rdt else None),
    }


def _device_document(device: Device) -> dict[str, Any]:
    document = device._asdict()
    document["fileMode"] = document.pop("file_mode")
    return document


def _intel_rdt_document(rdt: IntelRdt) -> dict[str, Any]:
    return _present(
        closID=rdt.clos_id,
        l3CacheSchema=rdt.l3_cache_schema,
        memBwSchema=rdt.mem_bw_schema,
        enableCMT=rdt.enable_cmt,
        enableMBM=rdt.enable_mbm,
    )


def resources_document(resources: Resources) -> dict[str, Any]:
    """`resources` as the specification's `linux.resources` object."""
    r = resources
    rules = [{"allow": d.allow, **_given(type=d.type, major=d.major, minor=d.minor, access=d.access)} for d in r.devices]
    network = _given(classID=r.network_class)
    network.update(_present(priorities=[{"name": name, "priority": priority} for name, priority in r.network_priorities]))
    return _present(
        memory=_memory_document(r),
        cpu=_cpu_document(r),
        pids=_given(limit=r.pids_limit),
        devices=rules,
        hugepageLimits=[{"pageSize": size, "limit": limit} for size, limit in r.hugepages],
        rdma={limit.device: _given(hcaHandles=limit.handles, hcaObjects=limit.objects) for limit in r.rdma},
        network=network,
        unified=dict(r.unified),
        **_given(blockIO=_block_io_document(r.block_io) if r.block_io else None),
    )


def _memory_document(r: Resources) -> dict[str, Any]:
    return {
        **_given(limit=r.memory_limit, reservation=r.memory_reservation, swap=r.memory_swap, swappiness=r.memory_swappiness),
        **_given(kernel=r.memory_kernel, kernelTCP=r.memory_kernel_tcp),
        **_present(disableOOMKiller=r.oom_kill_disable, checkBeforeUpdate=r.memory_check_before_update),
    }


def _cpu_document(r: Resources) -> dict[str, Any]:
    return {
        **_given(shares=r.cpu_shares, quota=r.cpu_quota, period=r.cpu_period, burst=r.cpu_burst, idle=r.cpu_idle),
        **_given(realtimeRuntime=r.cpu_realtime_runtime, realtimePeriod=r.cpu_realtime_period),
        **_given(cpus=r.cpuset_cpus, mems=r.cpuset_mems),
    }


def _block_io_document(block: BlockIo) -> dict[str, Any]:
    return {
        **_given(weight=block.weight, leafWeight=block.leaf_weight),
        **_present(
            weightDevice=[
                {"major": d.major, "minor": d.minor, **_given(weight=d.value, leafWeight=d.leaf_weight)} for d in block.weight_devices
            ],
            throttleReadBpsDevice=_throttle_documents(block.read_bps),
            throttleWriteBpsDevice=_throttle_documents(block.write_bps),
            throttleReadIOPSDevice=_throttle_documents(block.read_iops),
            throttleWriteIOPSDevice=_throttle_documents(block.write_iops),
        ),
    }


def _throttle_documents(devices: tuple[BlockDevice, ...]) -> list[dict[str, Any]]:
    return [{"major": device.major, "minor": device.minor, "rate": device.value} for device in devices]


def _seccomp_document(seccomp: Seccomp) -> dict[str, Any]:
    return {
        "defaultAction": seccomp.default_action,
        **_given(defaultErrnoRet=seccomp.default_errno),
        **_present(architectures=list(seccomp.architectures), flags=list(seccomp.flags)),
        **_present(listenerPath=seccomp.listener_path, listenerMetadata=seccomp.listener_metadata),
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
