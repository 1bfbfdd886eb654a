"""A Compose service and the Container that it declares: one table of keys, read in both directions.

`parse_service(name, service_document(container))` is `container` again, contents of files aside: the records keep the
document, and plan/ compares two documents key by key.
"""

from __future__ import annotations

from bayplan.model import endpoints, environment, files, lifecycle, limits, mounts, names, other_runtime, ports, privileges, units
from bayplan.model.container import Container
from bayplan.model.node import Node
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

RECORDED = Scope(recorded=True)
LITERAL = Scope()


class Key(NamedTuple):
    """A key that is one field: how its value is read, and how the field is written."""

    field: str
    read: Callable[[Node, Scope], Any]
    write: Callable[[Any], Any]


def _plainly(read: Callable[[Node], Any]) -> Callable[[Node, Scope], Any]:
    return lambda node, scope: read(node)


def _same(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _words(node: Node) -> tuple[str, ...]:
    """A command: a list, or a text that is split as a shell would."""
    if not isinstance(node.value, str):
        return tuple(element.scalar() for element in node.elements())
    import shlex

    try:
        return tuple(shlex.split(node.text()))
    except ValueError as error:
        raise node.wrong(f"splitting it into words: {str(error).lower()}") from None


def _pull(node: Node) -> str:
    if node.value == "build":
        raise node.wrong("images are not built here yet")
    return {"if_not_present": "missing"}.get(str(node.value)) or node.choice("missing", "always", "never")


def _group(node: Node) -> tuple[str, ...]:
    return tuple(sorted({element.line() for element in node.elements()}))


def _directory(node: Node) -> str:
    if not node.text().startswith("/") or "\n" in node.value:
        raise node.expected("an absolute path")
    return names.clean(node.value)


def _line(node: Node) -> str:
    return node.line() if node.value != "" else ""


_FLAG = _plainly(Node.boolean)
KEYS: Mapping[str, Key] = {
    "image": Key("image", _plainly(names.image), _same),
    "pull_policy": Key("pull", _plainly(_pull), _same),
    "platform": Key("platform", _plainly(_line), _same),
    "command": Key("command", _plainly(_words), _same),
    "entrypoint": Key("entrypoint", _plainly(_words), _same),
    "labels": Key("labels", environment.parse_pairs, dict),
    "annotations": Key("annotations", environment.parse_pairs, dict),
    "working_dir": Key("working_dir", _plainly(_directory), _same),
    "user": Key("user", _plainly(_line), _same),
    "group_add": Key("group_add", _plainly(_group), _same),
    "hostname": Key("hostname", _plainly(names.hostname), _same),
    "domainname": Key("domainname", _plainly(names.domainname), _same),
    "tty": Key("tty", _FLAG, _same),
    "stdin_open": Key("stdin_open", _FLAG, _same),
    "init": Key("init", _FLAG, _same),
    "network_mode": Key("network_mode", endpoints.parse_network_mode, _same),
    "ports": Key("ports", ports.parse_ports, ports.ports_document),
    "expose": Key("expose", ports.parse_expose, _same),
    "restart": Key("restart", lifecycle.parse_restart, lifecycle.restart_text),
    "healthcheck": Key("healthcheck", lifecycle.parse_healthcheck, lifecycle.healthcheck_document),
    "stop_signal": Key("stop_signal", lifecycle.parse_stop_signal, _same),
    "stop_grace_period": Key("stop_grace_period", _plainly(units.duration), units.duration_text),
    "logging": Key("logging", lifecycle.parse_logging, lifecycle.logging_document),
    "cap_add": Key("cap_add", privileges.parse_capabilities, _same),
    "cap_drop": Key("cap_drop", privileges.parse_capabilities, _same),
    "privileged": Key("privileged", _FLAG, _same),
    "read_only": Key("read_only", _FLAG, _same),
    "devices": Key("devices", privileges.parse_devices, privileges.devices_document),
    "device_cgroup_rules": Key("device_cgroup_rules", privileges.parse_device_rules, _same),
    "sysctls": Key("sysctls", privileges.parse_sysctls, dict),
    "ulimits": Key("ulimits", privileges.parse_ulimits, privileges.ulimits_document),
    "shm_size": Key("shm_size", _plainly(units.size), _same),
    "oom_score_adj": Key("oom_score_adj", _plainly(lambda node: node.integer(-1000, 1000)), _same),
    "pid": Key("pid", endpoints.parse_pid, _same),
    "ipc": Key("ipc", endpoints.parse_ipc, _same),
    "uts": Key("uts", endpoints.parse_uts, _same),
    "cgroup": Key("cgroup", endpoints.parse_cgroup, _same),
    "userns_mode": Key("userns", endpoints.parse_userns, _same),
    "runtime": Key("runtime", other_runtime.parse_runtime, _same),
    "extra_hosts": Key("extra_hosts", endpoints.parse_extra_hosts, endpoints.extra_hosts_document),
    "dns": Key("dns", endpoints.parse_dns, _same),
    "dns_search": Key("dns_search", endpoints.parse_dns_search, _same),
    "dns_opt": Key("dns_opt", endpoints.parse_dns_opt, _same),
    "depends_on": Key("depends_on", lifecycle.parse_depends_on, lifecycle.depends_on_document),
}
_SEVERAL = (
    "environment", "env_file", "volumes", "tmpfs", "networks", "secrets", "configs", "security_opt", "deploy", "container_name",
    "profiles", "scale", *limits.KEYS,
)  # fmt: skip
# What concerns other tools, or asks for what is so anyway.
IGNORED = frozenset({"attach", "develop"})
UNSUPPORTED = {
    "build": "images are not built here yet",
    "extends": "it is resolved where the document is read from a file",
    "pull_refresh_after": "use pull_policy: always",
    "links": "containers on one network find each other by name; use networks and depends_on",
    "external_links": "containers on one network find each other by name",
    "volumes_from": "name the volumes under volumes",
    "mac_address": "write it under networks.NAME.mac_address",
    "gpus": "name them under devices as CDI does, such as nvidia.com/gpu=all",
    "provider": "external providers are not supported",
    "models": "models are not supported",
    "credential_spec": "it concerns Windows",
    "isolation": "it concerns Windows",
    "cgroup_parent": "the parent group is chosen by the state root",
    "blkio_config": "limits of block devices are not supported yet",
    "storage_opt": "the root file system has no options",
    "mem_swappiness": "it is not supported; use memswap_limit",
    "oom_kill_disable": "it is not supported; use mem_limit",
    "cpu_rt_period": "real-time scheduling is not supported",
    "cpu_rt_runtime": "real-time scheduling is not supported",
    "cpu_count": "it concerns Windows; use cpus",
    "cpu_percent": "it concerns Windows; use cpus",
    "label_file": "write the labels under labels",
    "post_start": "hooks are not supported",
    "pre_stop": "hooks are not supported",
    "use_api_socket": "there is no API socket",
}
COMPOSE_KEYS = frozenset({*KEYS, *_SEVERAL, *IGNORED, *UNSUPPORTED, "x-bayplan"})
EXTENSION = ("auto_remove", "profile", "systemd", "cpuset_mems", "pull", "project", "service")
WANTED = ("state", "known", "ignore", "recreate", "restart", "force")


def parse_service(
    name: str, service: Mapping[str, Any], scope: Scope = LITERAL, *, alias: str = "", place: str = ""
) -> Container:
    """The container called `name` that `service`, a Compose service's mapping, declares.

    `alias` is its service's name inside a project. Raises Invalid, naming the key's place and what was expected there.
    """
    node = Node(service, place or f"services.{name}")
    members = node.members(COMPOSE_KEYS)
    for key, why in UNSUPPORTED.items():
        if key in members:
            raise members[key].wrong(why)
    extension = members["x-bayplan"].members((*EXTENSION, *WANTED)) if "x-bayplan" in members else {}
    fields = {key.field: key.read(members[word], scope) for word, key in KEYS.items() if word in members}
    fields.update(_several(members, scope, extension))
    fields.update(_networks(members, scope, alias))
    fields.update(_owner(extension, scope) if scope.recorded else {"project": scope.project, "service": alias})
    container = Container(name=name, **{"image": "", **fields})
    return container if scope.recorded else _checked(node, container)


def _several(members: Mapping[str, Node], scope: Scope, extension: Mapping[str, Node]) -> dict[str, Any]:
    """The fields that are read from more than one key."""
    found: dict[str, Any] = {
        "environment": environment.parse_environment(members.get("environment"), members.get("env_file"), scope),
        "mounts": mounts.parse_mounts(members.get("volumes"), members.get("tmpfs"), scope),
        "files": files.parse_files(members.get("secrets"), members.get("configs"), scope),
        "limits": limits.parse_limits(members, limits.cpuset(extension["cpuset_mems"]) if "cpuset_mems" in extension else ""),
    }
    if "security_opt" in members:
        found["no_new_privileges"], found["seccomp"] = privileges.parse_security_opt(members["security_opt"])
    if "restart" not in members and "deploy" in members and (restart := limits.parse_deploy_restart(members["deploy"])):
        found["restart"] = restart
    if "auto_remove" in extension:
        found["auto_remove"] = extension["auto_remove"].boolean()
    if "profile" in extension:
        found["profile"] = extension["profile"].choice("default", "strict")
    if "systemd" in extension:
        mode = extension["systemd"]  # YAML's own false is meant, too
        found["systemd"] = "false" if mode.value is False else mode.choice("auto", "always", "false")
    if "pull" in extension:
        found["pull"] = _pull(extension["pull"])
    if "scale" in members and members["scale"].integer() != 1:
        raise members["scale"].wrong("one container per service is what is supported; declare a service for each")
    return found


def _networks(members: Mapping[str, Node], scope: Scope, alias: str) -> dict[str, Any]:
    aliases = (alias,) if alias else ()
    networks = endpoints.parse_networks(members["networks"], scope, aliases) if "networks" in members else ()
    if networks and "network_mode" in members and not scope.recorded:
        raise members["networks"].wrong("network_mode is given as well; keep one of them")
    if not networks and alias and "network_mode" not in members:
        networks = endpoints.default_network(scope, aliases)
    return {"networks": networks}


def _owner(extension: Mapping[str, Node], scope: Scope) -> dict[str, Any]:
    return {key: extension[key].text() for key in ("project", "service") if key in extension}


def _checked(node: Node, container: Container) -> Container:
    """What no single key shows; the kernel or the specification forbids each."""
    if container.network_mode != "bridge" and container.ports:
        raise node.wrong(f"ports cannot be published with network_mode {container.network_mode}")
    if container.network_mode.startswith("container:") and (container.hostname or container.dns or container.extra_hosts):
        raise node.wrong("hostname, dns and extra_hosts belong to the container whose network is shared")
    if container.uts != "private" and (container.hostname or container.domainname):
        raise node.wrong(f"hostname and domainname cannot be set with uts: {container.uts}")
    _check_userns(node, container)
    other_runtime.check(node, container)
    clash = {file.target for file in container.files} & {mount.target for mount in container.mounts}
    if clash:
        raise node.wrong(f"a mount and a file have the target {min(clash)}")
    if container.auto_remove and container.restart.name != "no":
        raise node.wrong("auto_remove and a restart policy exclude each other")
    return container


def _check_userns(node: Node, container: Container) -> None:
    """What belongs to the host's user namespace cannot be used from another: its network, processes and IPC, and a container's there."""
    if container.userns != "private":
        return
    shared = {"network_mode": container.network_mode, "pid": container.pid, "ipc": container.ipc}
    for key, mode in shared.items():
        if mode == "host" or mode.startswith("container:"):
            raise node.wrong(f"userns_mode private and {key} {mode} exclude each other")
    if container.privileged:
        raise node.wrong("userns_mode private and privileged exclude each other")


def service_document(container: Container) -> dict[str, Any]:
    """The shortest Compose mapping that declares `container`: defaults are left out, files are digests."""
    defaults = Container._field_defaults
    document: dict[str, Any] = {}
    for word, key in KEYS.items():
        value = getattr(container, key.field)
        if value != defaults.get(key.field, ""):
            document[word] = key.write(value)
    opts = privileges.security_opt_document(no_new_privileges=container.no_new_privileges, seccomp=container.seccomp)
    document.update({"environment": dict(container.environment)} if container.environment else {})
    document.update({"networks": endpoints.networks_document(container.networks)} if container.networks else {})
    document.update({"security_opt": opts} if opts else {})
    document.update(mounts.mounts_document(container.mounts))
    document.update(files.files_document(container.files))
    document.update(limits.limits_document(container.limits))
    extension = _extension(container)
    return {**document, **({"x-bayplan": extension} if extension else {})}


def _extension(container: Container) -> dict[str, Any]:
    return {
        **({"auto_remove": True} if container.auto_remove else {}),
        **({"profile": container.profile} if container.profile != "default" else {}),
        **({"systemd": container.systemd} if container.systemd != "auto" else {}),
        **({"cpuset_mems": container.limits.cpuset_mems} if container.limits.cpuset_mems else {}),
        **({"project": container.project} if container.project else {}),
        **({"service": container.service} if container.service else {}),
    }
