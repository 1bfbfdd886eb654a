"""A task about one resource, as Ansible and pyinfra write it, turned into what the verb `converge` wants: a document with one entry."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.container_options import SERVICE
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

Document: TypeAlias = "dict[str, Any]"

_SERVICE_KEYS = frozenset(option.name for option in SERVICE)
_OF_DOOR = ("ignore", "recreate", "force", "auto_remove", "profile", "systemd")


def image_want(options: Mapping[str, Any]) -> Document:
    """One image; `archive` is a path on the host by now."""
    keys = ("state", "pull", "platform", "archive", "tags", "force")
    image = {key: options[key] for key in keys if options.get(key) is not None}
    return _want({"images": {options["name"]: image}}, options)


def network_want(options: Mapping[str, Any]) -> Document:
    """One network; subnet, gateway and ip_range are a shorter way to write ipam.config."""
    keys = ("driver", "ipam", "enable_ipv6", "internal", "labels", "driver_opts")
    network = {key: _without_none(options[key]) for key in keys if options.get(key) is not None}
    short = {key: options[key] for key in ("subnet", "gateway", "ip_range") if options.get(key) is not None}
    if short and "ipam" in network:
        raise Invalid(f"network {options['name']}: {sorted(short)[0]} and ipam say the same, give one of them")
    if short:
        network["ipam"] = {"config": [short]}
    return _resource("networks", network, options)


def volume_want(options: Mapping[str, Any]) -> Document:
    keys = ("driver", "driver_opts", "labels")
    return _resource("volumes", {key: options[key] for key in keys if options.get(key) is not None}, options)


def container_want(options: Mapping[str, Any]) -> Document:
    """One container: Compose's keys as they are, the peers' spellings translated.

    Raises Invalid where options contradict each other, or where one needs the image and there is none.
    """
    name = options["name"]
    service = {key: _without_none(options[key]) for key in _SERVICE_KEYS if options.get(key) is not None}
    door = {key: options[key] for key in ("state", *_OF_DOOR) if options.get(key) is not None}
    _read_restart(service, door, options)
    if options.get("image") is None and service and options.get("state") != "absent":
        raise Invalid(f"container {name}: {sorted(service)[0]} is given without an image; name the image too")
    known = options.get("image") is not None
    if known:
        service["image"] = options["image"]
        service["pull_policy"] = options.get("pull") or "missing"
    elif options.get("state") == "present":
        raise Invalid(f"container {name}: state present needs an image")
    files = _move_files(service)
    _translate(service)
    return _want({}, options, services={name: {**service, "x-bayplan": {**door, "known": known}}}, **files)


def info_want(kind: str, names: list[str] | None) -> Document:
    return {"kind": kind, "names": list(names or ())}


def action_want(options: Mapping[str, Any]) -> Document:
    """One action, whose request has the options' words; what the controller reads (controller.py) is in `options` by then."""
    want = {key: value for key, value in options.items() if value is not None and key not in ("root", "registry_auth")}
    return {**want, **auth_want(options.get("registry_auth"))}


def auth_want(auth: Mapping[str, Any] | None) -> Document:
    """Credentials for a call; they travel inside the request and are stored nowhere."""
    return {"auth": _without_none(dict(auth))} if auth else {}


def _resource(section: str, entry: Document, options: Mapping[str, Any]) -> Document:
    entry["x-bayplan"] = {"state": options.get("state") or "present"}
    return _want({}, options, **{section: {options["name"]: entry}})


def _want(door: Document, options: Mapping[str, Any], **sections: Any) -> Document:
    waits = {key: options[key] for key in ("wait", "wait_timeout") if options.get(key) is not None}
    return {**sections, "x-bayplan": {**door, **waits, **auth_want(options.get("registry_auth")), "yaml11": True}}


def _read_restart(service: Document, door: Document, options: Mapping[str, Any]) -> None:
    """`restart` is an action where it is a boolean (as peers have it), and the policy where it is a string (as Compose has it)."""
    restart, policy = options.get("restart"), options.get("restart_policy")
    if isinstance(restart, bool):
        door["restart"] = restart
    elif restart is not None:
        if policy is not None and policy != restart:
            raise Invalid(f"container {options['name']}: restart {restart!r} and restart_policy {policy!r} differ")
        policy = restart
    if policy is not None:
        service["restart"] = "no" if policy is False else str(policy)


def _translate(service: Document) -> None:
    """Shapes that only peers have, into Compose's."""
    networks = service.get("networks")
    if isinstance(networks, list) and any(isinstance(entry, dict) for entry in networks):
        service["networks"] = dict(_network_entry(entry) for entry in networks)
    ulimits = service.get("ulimits")
    if isinstance(ulimits, list):
        service["ulimits"] = dict(_ulimit_entry(str(entry)) for entry in ulimits)
    grace = service.get("stop_grace_period")
    if grace is not None and str(grace).isdigit():
        service["stop_grace_period"] = f"{grace}s"


def _network_entry(entry: object) -> tuple[str, object]:
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Invalid("networks: an entry is a name, or a mapping with a name")
    return entry["name"], {key: value for key, value in entry.items() if key != "name" and value is not None} or None


def _ulimit_entry(entry: str) -> tuple[str, object]:
    name, _, values = entry.partition(":")
    soft, _, hard = values.partition(":")
    if not soft.lstrip("-").isdigit() or not (hard or soft).lstrip("-").isdigit():
        raise Invalid(f"ulimits: {entry!r} is not NAME:SOFT:HARD with whole numbers")
    return name, {"soft": int(soft), "hard": int(hard or soft)}


def _move_files(service: Document) -> Document:
    """Compose declares secrets and configs beside the services, and a service refers to them; a task names the files itself."""
    sections: Document = {}
    for section in ("secrets", "configs"):
        if not service.get(section):
            continue
        named = [(_file_name(entry["target"]), entry) for entry in service[section]]
        sections[section] = {name: {"file": entry["source"]} for name, entry in named}
        service[section] = [{**entry, "source": name} for name, entry in named]
    return sections


def _file_name(target: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in target.lstrip("/"))


def _without_none(value: Any) -> Any:
    """`value` without what Ansible fills in for suboptions that were left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
