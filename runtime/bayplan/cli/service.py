"""From the options of `run`, `create` and `update` to the Compose Specification's service, which model/service.py reads.

PURE, but for the files that --env-file and --label-file name (variables.py).
"""

from __future__ import annotations

import os

from bayplan.cli.call import Call
from bayplan.cli.variables import environment, labels, pairs
from bayplan.errors import Conflict, Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Options whose value is the Compose key's value as it is.
_PLAIN = {
    "memory": "mem_limit",
    "memory-swap": "memswap_limit",
    "memory-reservation": "mem_reservation",
    "cpus": "cpus",
    "cpuset-cpus": "cpuset",
    "restart": "restart",
    "hostname": "hostname",
    "domainname": "domainname",
    "shm-size": "shm_size",
    "workdir": "working_dir",
    "user": "user",
    "stop-signal": "stop_signal",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "cgroupns": "cgroup",
    "userns": "userns_mode",
    "runtime": "runtime",
    "pull": "pull_policy",
    "platform": "platform",
}
_NUMBERS = {
    "cpu-shares": "cpu_shares",
    "cpu-period": "cpu_period",
    "cpu-quota": "cpu_quota",
    "pids-limit": "pids_limit",
    "oom-score-adj": "oom_score_adj",
}
_FLAGS = {"init": "init", "tty": "tty", "interactive": "stdin_open", "read-only": "read_only", "privileged": "privileged"}
_LISTS = {
    "publish": "ports",
    "expose": "expose",
    "add-host": "extra_hosts",
    "dns": "dns",
    "dns-search": "dns_search",
    "tmpfs": "tmpfs",
    "device": "devices",
    "device-cgroup-rule": "device_cgroup_rules",
    "group-add": "group_add",
    "cap-add": "cap_add",
    "cap-drop": "cap_drop",
    "security-opt": "security_opt",
}
_HEALTH = {
    "health-interval": "interval",
    "health-timeout": "timeout",
    "health-start-period": "start_period",
    "health-start-interval": "start_interval",
}


def service_mapping(call: Call, *, variables: Mapping[str, str], directory: str) -> dict[str, Any]:
    """The service that `run IMAGE [COMMAND...]` declares. `variables` is our environment, `directory` the current one.

    Raises Invalid for what Docker's command line calls wrong; what Compose calls wrong is found when the service is read.
    """
    mapping: dict[str, Any] = {"image": call.arguments[0], **limits_mapping(call)}
    if len(call.arguments) > 1:
        mapping["command"] = list(call.arguments[1:])
    if call.given("entrypoint"):
        entrypoint = call.text("entrypoint")
        mapping["entrypoint"] = [entrypoint] if entrypoint else []
    mapping.update({key: call.flag(name) for name, key in _FLAGS.items() if call.given(name)})
    mapping.update({key: list(call.many(name)) for name, key in _LISTS.items() if call.given(name)})
    parts = {
        "dns_opt": [*call.many("dns-option"), *call.many("dns-opt")],
        "environment": environment(call.many("env"), call.many("env-file"), variables),
        "labels": labels(call.many("label"), call.many("label-file")),
        "annotations": pairs("--annotation", call.many("annotation")),
        "sysctls": pairs("--sysctl", call.many("sysctl")),
        "ulimits": _ulimits(call.many("ulimit")),
        "healthcheck": _healthcheck(call),
        "logging": _logging(call),
        "volumes": [*(_volume(each, directory) for each in call.many("volume")), *(_mount(each, directory) for each in call.many("mount"))],
        "x-bayplan": _extension(call),
    }
    mapping.update({key: value for key, value in parts.items() if value})
    if call.given("stop-timeout"):
        mapping["stop_grace_period"] = f"{call.number('stop-timeout')}s"
    mapping.update(_networks(call))
    return mapping


def option_of(key: str) -> str:
    """The option that a Compose key came from, for messages: volumes is --volume, mem_limit is --memory; "" for none."""
    other = {
        "image": "IMAGE", "command": "COMMAND", "volumes": "--volume", "networks": "--network", "network_mode": "--network",
        "environment": "--env", "labels": "--label", "annotations": "--annotation", "sysctls": "--sysctl", "ulimits": "--ulimit",
        "healthcheck": "--health-cmd", "logging": "--log-driver", "stop_grace_period": "--stop-timeout", "dns_opt": "--dns-option",
        "x-bayplan.profile": "--profile", "x-bayplan.systemd": "--systemd", "x-bayplan.cpuset_mems": "--cpuset-mems",
        "entrypoint": "--entrypoint",
    }  # fmt: skip
    named = {key: f"--{name}" for table in (_PLAIN, _NUMBERS, _FLAGS, _LISTS) for name, key in table.items()}
    return {**other, **named}.get(key, "")


def limits_mapping(call: Call) -> dict[str, Any]:
    """The keys of single values: limits, restart policy and their like, of those options that were given."""
    plain: dict[str, Any] = {key: call.text(name) for name, key in _PLAIN.items() if call.given(name)}
    return {**plain, **{key: call.number(name) for name, key in _NUMBERS.items() if call.given(name)}}


def _extension(call: Call) -> dict[str, Any]:
    extension: dict[str, Any] = {}
    if call.given("profile"):
        extension["profile"] = call.text("profile")
    if call.given("systemd"):
        extension["systemd"] = call.text("systemd")
    if call.given("cpuset-mems"):
        extension["cpuset_mems"] = call.text("cpuset-mems")
    if call.flag("rm"):
        if call.text("restart", "no") != "no":
            raise Conflict("--rm and --restart contradict each other: a container that is removed cannot be restarted")
        extension["auto_remove"] = True
    return extension


def _ulimits(given: tuple[str, ...]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for name, value in pairs("--ulimit", given).items():
        soft, _, hard = value.partition(":")
        for bound in (soft, hard or soft):
            if not (bound.lstrip("-").isascii() and bound.lstrip("-").isdigit()):
                raise Invalid(f"--ulimit {name}={value}: NAME=SOFT[:HARD], two whole numbers")
        limits[name] = {"soft": int(soft), "hard": int(hard or soft)}
    return limits


def _healthcheck(call: Call) -> dict[str, Any]:
    check: dict[str, Any] = {key: call.text(name) for name, key in _HEALTH.items() if call.given(name)}
    if call.given("health-retries"):
        check["retries"] = call.number("health-retries")
    if call.text("health-cmd"):
        check["test"] = ["CMD-SHELL", call.text("health-cmd")]
    if call.flag("no-healthcheck"):
        if check:
            raise Conflict("--no-healthcheck and the other --health options contradict each other")
        return {"disable": True}
    return check


def _logging(call: Call) -> dict[str, Any]:
    logging: dict[str, Any] = {"driver": call.text("log-driver")} if call.given("log-driver") else {}
    options = pairs("--log-opt", call.many("log-opt"))
    return {**logging, "options": options} if options else logging


def _volume(text: str, directory: str) -> str:
    """-v takes paths relative to where we are, if they begin with a dot; anything else that is no absolute path is a name."""
    source, colon, rest = text.partition(":")
    if colon and (source in (".", "..") or source.startswith(("./", "../"))):
        return f"{os.path.normpath(os.path.join(directory, source))}:{rest}"
    return text


_MOUNT_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_MOUNT_NESTED = {
    "bind-propagation": ("bind", "propagation"),
    "volume-nocopy": ("volume", "nocopy"),
    "volume-subpath": ("volume", "subpath"),
    "tmpfs-size": ("tmpfs", "size"),
    "tmpfs-mode": ("tmpfs", "mode"),
}


def _mount(text: str, directory: str) -> dict[str, Any]:
    """--mount, Docker's comma-separated form, as Compose's long form of a volume."""
    mount: dict[str, Any] = {"type": "volume"}
    for field in text.split(","):
        written, equals, value = field.strip().partition("=")
        key = _MOUNT_KEYS.get(written, written)
        if key == "readonly":
            mount["read_only"] = _truth(text, value) if equals else True
        elif key in ("type", "source", "target") and equals:
            mount[key] = value
        elif key in _MOUNT_NESTED and (equals or key == "volume-nocopy"):
            section, inner = _MOUNT_NESTED[key]
            mount.setdefault(section, {})[inner] = _mount_value(text, inner, value)
        elif key == "bind-create-src":
            mount.setdefault("bind", {})["create_host_path"] = _truth(text, value or "true")
        elif key != "consistency":
            known = ("type", "source", "target", "readonly", *_MOUNT_NESTED)
            raise Invalid(f"--mount {text}: unknown field {written!r}; known are {', '.join(known)}")
    if mount["type"] == "bind":
        # Docker's --mount never makes a source that is not there; its -v does.
        mount.setdefault("bind", {}).setdefault("create_host_path", False)
        if mount.get("source", "").startswith("."):
            mount["source"] = os.path.normpath(os.path.join(directory, mount["source"]))
    return mount


def _mount_value(text: str, key: str, value: str) -> Any:
    if key == "nocopy":
        return _truth(text, value or "true")
    if key == "mode":
        try:
            return int(value, 8)
        except ValueError as error:
            raise Invalid(f"--mount {text}: tmpfs-mode is octal, like 1777") from error
    return value


def _truth(text: str, value: str) -> bool:
    if value not in ("true", "1", "false", "0"):
        raise Invalid(f"--mount {text}: {value!r} is not true or false")
    return value in ("true", "1")


def _networks(call: Call) -> dict[str, Any]:
    """--network and its like: network_mode for the modes, a mapping of endpoints for names."""
    given = (*call.many("network"), *call.many("net"))
    first = _first_endpoint(call)
    endpoints = dict(_endpoint(text) for text in given)
    if not endpoints:
        # Aliases and addresses belong to the networks that people declare; on the default one there are none.
        return {"networks": {"bridge": first}} if first else {}
    name = next(iter(endpoints))
    if _is_mode(name):
        if len(endpoints) > 1:
            raise Conflict(f"--network {name} goes with no other network")
        if first and name != "bridge":
            raise Conflict(f"--network {name} takes no aliases and no addresses")
        if not first and not endpoints[name]:
            return {"network_mode": "bridge" if name == "default" else name}
    endpoints[name] = _merged(endpoints[name], first)
    return {"networks": {each: fields or None for each, fields in endpoints.items()}}


def _is_mode(name: str) -> bool:
    return name in ("bridge", "default", "host", "none") or name.startswith("container:")


def _first_endpoint(call: Call) -> dict[str, Any]:
    fields: dict[str, Any] = {"aliases": list(call.many("network-alias"))} if call.given("network-alias") else {}
    named = (("ip", "ipv4_address"), ("ip6", "ipv6_address"), ("mac-address", "mac_address"))
    return {**fields, **{key: call.text(name) for name, key in named if call.given(name)}}


_ENDPOINT = {"ip": "ipv4_address", "ip6": "ipv6_address", "mac-address": "mac_address", "gw-priority": "priority"}


def _endpoint(text: str) -> tuple[str, dict[str, Any]]:
    """NAME, or name=NAME,alias=A,ip=ADDRESS."""
    if "=" not in text:
        return text, {}
    name: str | None = None
    fields: dict[str, Any] = {}
    for field in text.split(","):
        key, equals, value = field.strip().partition("=")
        if key == "name" and equals:
            name = value
        elif key == "alias" and equals:
            fields.setdefault("aliases", []).append(value)
        elif key in _ENDPOINT and equals:
            fields[_ENDPOINT[key]] = value
        else:
            raise Invalid(f"--network {text}: unknown field {key!r}; known are name, alias, {', '.join(_ENDPOINT)}")
    if not name:
        raise Invalid(f"--network {text}: it has no name=")
    return name, fields


def _merged(fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    aliases = [*fields.get("aliases", ()), *more.get("aliases", ())]
    return {**fields, **more, **({"aliases": aliases} if aliases else {})}
