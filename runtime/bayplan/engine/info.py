"""What is there, as documents: the answer to the verb `info`, and to `inspect`."""

from __future__ import annotations

from bayplan.engine import cgroup, containers, images, monitor, networks, volumes
from bayplan.engine.containers import Record, Run
from bayplan.engine.state import State, open_state
from bayplan.errors import Invalid, NotFound
from bayplan.model.result import Request, Response
from bayplan.model.service import service_document
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan import bundle, systemd
from bayplan.store import records, status

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def info(request: Request) -> Response:
    """`want` holds kind (container, image, network, volume, stack) and names; without names, all. What is not there is left out."""
    kind, names = request.want.get("kind"), request.want.get("names") or []
    if kind not in _KINDS:
        raise Invalid(f"asking for information: there is no kind {kind!r}; known are {', '.join(sorted(_KINDS))}")
    state = open_state(request.root)
    return Response(result=_KINDS[kind](state, tuple(map(str, names))))


def _listed(
    state: State, names: tuple[str, ...], everything: Callable[[State], list[str]], one: Callable[[State, str], Any]
) -> list[Any]:
    found = []
    for name in names or everything(state):
        try:
            found.append(one(state, name))
        except NotFound:
            continue
    return found


def _containers(state: State, names: tuple[str, ...]) -> list[Any]:
    return _listed(
        state,
        names,
        lambda s: [row.name for row in records.containers(s.records)],
        lambda s, name: container(s, containers.find(s, name)),
    )


def _images(state: State, names: tuple[str, ...]) -> list[Any]:
    return _listed(
        state, names, lambda s: [row.id for row in records.images(s.records)], lambda s, name: images.document(s, images.find(s, name))
    )


def _networks(state: State, names: tuple[str, ...]) -> list[Any]:
    return _listed(state, names, lambda s: [row.name for row in records.networks(s.records)], networks.document)


def _volumes(state: State, names: tuple[str, ...]) -> list[Any]:
    return _listed(state, names, lambda s: [row.name for row in records.volumes(s.records)], volumes.document)


def _stacks(state: State, names: tuple[str, ...]) -> list[Any]:
    """Projects, with what belongs to each."""
    rows = records.containers(state.records)
    projects = {row.project for row in rows if row.project}
    return [
        {
            "name": project,
            "containers": [container(state, containers.record_of(row)) for row in rows if row.project == project],
            "networks": [networks.document(state, row.name) for row in records.networks(state.records) if row.project == project],
            "volumes": [volumes.document(state, row.name) for row in records.volumes(state.records) if row.project == project],
        }
        for project in sorted(projects)
        if not names or project in names
    ]


_KINDS = {"container": _containers, "image": _images, "network": _networks, "volume": _volumes, "stack": _stacks}


def container(state: State, record: Record) -> dict[str, Any]:
    """What `inspect` shows of a container, in Docker's shape; `Service` is what was declared, in Compose's words."""
    run = containers.run_of(state, record.id)
    image = images.config(state, record.image_id)
    spec = record.spec
    args = bundle.arguments(spec, image)
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": args[0],
        "Args": list(args[1:]),
        "State": _state(state, record, run),
        "Image": record.image_id,
        "Name": record.name,
        "RestartCount": run.restarts,
        "Config": _config(state, record),
        "HostConfig": _host_config(state, record),
        "Mounts": _mounts(state, record),
        "NetworkSettings": _network_settings(state, record),
        "LogPath": f"{state.root.container(record.id)}/json.log" if spec.logging.driver == "json-file" else "",
        "Service": service_document(spec),
    }


def _state(state: State, record: Record, run: Run) -> dict[str, Any]:
    ended = status.read_exit(state.root.container(record.id))
    health = status.read_health(state.root.container(record.id)) if run.health else {}
    return {
        "Status": run.status,
        "Running": run.status in ("running", "paused"),
        "Paused": run.status == "paused",
        "Restarting": run.status == "restarting",
        "OOMKilled": run.oom_killed,
        "Dead": run.status == "dead",
        "Pid": run.pid,
        "ExitCode": run.exit_code,
        "Error": ended.error if ended else "",
        "StartedAt": run.started_at,
        "FinishedAt": run.finished_at,
        **({"Health": health} if health else {}),
    }


def _config(state: State, record: Record) -> dict[str, Any]:
    image, spec = images.config(state, record.image_id), record.spec
    return {
        "Hostname": bundle.hostname(spec, record.id),
        "User": spec.user if spec.user is not None else image.user,
        "Tty": spec.tty,
        "OpenStdin": spec.stdin_open,
        "Env": list(bundle.environment(spec, image, record.id)),
        "Cmd": list(spec.command if spec.command is not None else image.cmd or ()),
        "Entrypoint": list(spec.entrypoint if spec.entrypoint is not None else image.entrypoint or ()),
        "Image": spec.image,
        "WorkingDir": spec.working_dir or image.working_dir or "/",
        "Labels": {**dict(image.labels), **dict(spec.labels)},
        "StopSignal": systemd.stop_signal(spec, image),
        "StopTimeout": spec.stop_grace_period / 1e9,
        **_healthcheck(state, record),
    }


def _healthcheck(state: State, record: Record) -> dict[str, Any]:
    check = monitor.healthcheck(record.spec, images.config(state, record.image_id))
    if check is None:
        return {}
    return {"Healthcheck": {"Test": list(check.test), "Interval": check.interval, "Timeout": check.timeout, "Retries": check.retries}}


def _host_config(state: State, record: Record) -> dict[str, Any]:
    spec, limits = record.spec, record.spec.limits
    return {
        "NetworkMode": spec.network_mode,
        "Runtime": spec.runtime or "bayplan",
        "RestartPolicy": {"Name": spec.restart.name, "MaximumRetryCount": spec.restart.attempts},
        "AutoRemove": spec.auto_remove,
        "LogConfig": {"Type": spec.logging.driver, "Config": dict(spec.logging.options)},
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only,
        "Memory": limits.memory,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap,
        "NanoCpus": limits.cpus,
        "CpuShares": limits.cpu_shares,
        "CpusetCpus": limits.cpuset,
        "CpusetMems": limits.cpuset_mems,
        "PidsLimit": limits.pids,
        "ShmSize": spec.shm_size,
        "Init": spec.init,
        "CgroupPath": cgroup.path(state, record.id),
        "PortBindings": _ports(state, record),
    }


def _ports(state: State, record: Record) -> dict[str, Any]:
    bindings: dict[str, Any] = {}
    for port in records.ports(state.records, container=record.id):
        key = f"{port.target}/{port.protocol}"
        bindings.setdefault(key, []).append({"HostIp": port.host_ip or "0.0.0.0", "HostPort": str(port.port)})
    return bindings


def _mounts(state: State, record: Record) -> list[dict[str, Any]]:
    volumes_used = {use.target: use.volume for use in records.volume_uses(state.records, container=record.id)}
    found = [
        {"Type": "volume", "Name": name, "Source": state.root.volume_data(name), "Destination": target}
        for target, name in volumes_used.items()
    ]
    found += [
        {"Type": mount.kind, "Source": mount.source, "Destination": mount.target}
        for mount in record.spec.mounts
        if mount.target not in volumes_used
    ]
    writable = {mount.target: not mount.read_only for mount in record.spec.mounts}
    return [{**each, "RW": writable.get(str(each["Destination"]), True)} for each in found]


def _network_settings(state: State, record: Record) -> dict[str, Any]:
    attached = {}
    for lease in records.endpoints(state.records, container=record.id):
        network = records.network_by_id(state.records, lease.network)
        attached[network.name] = {
            "NetworkID": network.id,
            "Aliases": list(lease.names),
            "IPAddress": lease.ipv4,
            "IPPrefixLen": int(network.subnet.partition("/")[2]),
            "Gateway": network.gateway,
            "GlobalIPv6Address": lease.ipv6 or "",
            "MacAddress": lease.mac,
        }
    first = next(iter(attached.values()), {})
    return {"Ports": _ports(state, record), "Networks": attached, "IPAddress": first.get("IPAddress", "")}
