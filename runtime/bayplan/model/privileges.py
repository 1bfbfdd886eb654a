"""What a service may do: capabilities, devices, `ulimits`, `sysctls`, `security_opt`."""

from __future__ import annotations

from bayplan.model import names
from bayplan.model.container import Device, Pairs, Ulimit
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack as".split()
)
_SYSCTL = r"(?a)[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)+"
_RULE = r"(?a)[abc] (?:\d{1,6}|\*):(?:\d{1,8}|\*) [rwm]{1,3}"
_CAPABILITY = r"(?a)[A-Z0-9_]{2,40}"
# Words of security_opt that ask for what is so anyway: no labels and no profile of AppArmor are ever set.
_WITHOUT_EFFECT = frozenset({"label=disable", "label:disable", "apparmor=unconfined", "apparmor:unconfined"})


def parse_capabilities(node: Node, scope: Scope) -> tuple[str, ...]:
    """Names without CAP_, sorted; model/capabilities.py knows which there are."""
    return tuple(sorted({_capability(element) for element in node.elements()}))


def _capability(node: Node) -> str:
    name = node.text().upper()
    if not fullmatch(_CAPABILITY, name):
        raise node.expected("a capability such as NET_ADMIN")
    return name[4:] if name.startswith("CAP_") else name


def parse_devices(node: Node, scope: Scope) -> tuple[Device, ...]:
    """Sorted by the path inside, or by name where CDI knows what is inside; each once."""
    found: dict[str, Device] = {}
    for element in node.elements():
        device = _long_device(element) if isinstance(element.value, dict) else _short_device(element)
        place = device.target or device.source
        if place in found:
            raise element.wrong(f"two devices have the target {place}")
        found[place] = device
    return tuple(found[place] for place in sorted(found))


def _short_device(node: Node) -> Device:
    if _is_named(node.text()):
        return _named_device(node)
    parts = node.text().split(":")
    if len(parts) == 2 and not parts[1].startswith("/"):
        parts = [parts[0], parts[0], parts[1]]
    return _device(node, parts[0], *(parts[1:] or [parts[0]])) if len(parts) <= 3 else _device(node, "", "")


def _long_device(node: Node) -> Device:
    members = node.members(("source", "target", "permissions"))
    source = members["source"].text() if "source" in members else ""
    if _is_named(source):
        for key in ("target", "permissions"):
            if key in members and members[key].text() not in ("", source):
                raise members[key].wrong("of a device by its CDI name the vendor's file says that")
        return _named_device(members["source"])
    target = members["target"].text() if "target" in members else source
    return _device(node, source, target, members["permissions"].text() if "permissions" in members else "rwm")


def _is_named(text: str) -> bool:
    return "=" in text and not text.startswith("/")


def _named_device(node: Node) -> Device:
    from bayplan.model import cdi  # for those who have such devices

    return Device(cdi.parse_name(node), "", "")


def _device(node: Node, source: str, target: str, permissions: str = "rwm") -> Device:
    if not source.startswith("/") or not permissions or set(permissions) - set("rwm"):
        raise node.expected("a device such as /dev/fuse or /dev/sda:/dev/xvda:rwm")
    ordered = "".join(letter for letter in "rwm" if letter in permissions)
    return Device(names.path(Node(source, node.place)), names.path(Node(target, node.place)), ordered)


def devices_document(devices: tuple[Device, ...]) -> list[Any]:
    return [device._asdict() if device.target else device.source for device in devices]


def parse_device_rules(node: Node, scope: Scope) -> tuple[str, ...]:
    """Rules of the device controller such as "c 10:200 rwm", sorted."""
    rules = {element.text() for element in node.elements()}
    for rule in rules:
        if not fullmatch(_RULE, rule):
            raise node.wrong(f"{rule[:60]!r} is not a rule such as `c 10:200 rwm`")
    return tuple(sorted(rules))


def parse_ulimits(node: Node, scope: Scope) -> tuple[Ulimit, ...]:
    """Sorted by name; -1 is unlimited (getrlimit(2))."""
    found = []
    for name, each in node.entries():
        if name not in _ULIMITS:
            raise each.wrong(f"{name!r} is not a limit of the kernel; known are {', '.join(sorted(_ULIMITS))}")
        found.append(_ulimit(name, each))
    return tuple(sorted(found))


def _ulimit(name: str, node: Node) -> Ulimit:
    if not isinstance(node.value, dict):
        return Ulimit(name, node.integer(-1), node.integer(-1))
    members = node.members(("soft", "hard"))
    if set(members) != {"soft", "hard"}:
        raise node.expected("a number, or soft and hard")
    soft, hard = members["soft"].integer(-1), members["hard"].integer(-1)
    if hard != -1 and (soft == -1 or soft > hard):
        raise node.wrong(f"the soft limit {soft} is above the hard one {hard}")
    return Ulimit(name, soft, hard)


def ulimits_document(ulimits: tuple[Ulimit, ...]) -> dict[str, Any]:
    return {each.name: {"soft": each.soft, "hard": each.hard} for each in ulimits}


def parse_sysctls(node: Node, scope: Scope) -> Pairs:
    """Sorted pairs; whether a name belongs to a namespace of the container is decided where it is written."""
    pairs = _assignments(node) if isinstance(node.value, (list, tuple)) else node.entries()
    for name, each in pairs:
        if not fullmatch(_SYSCTL, name):
            raise each.wrong(f"{name[:60]!r} is not a sysctl's name such as net.core.somaxconn")
    return tuple(sorted({name.replace("/", "."): each.line() for name, each in pairs}.items()))


def _assignments(node: Node) -> list[tuple[str, Node]]:
    found = []
    for element in node.elements():
        name, separator, value = element.text().partition("=")
        if not separator:
            raise element.expected("NAME=VALUE")
        found.append((name, Node(value, element.place)))
    return found


def parse_security_opt(node: Node) -> tuple[bool, str]:
    """Whether no_new_privs is set, and the seccomp filter: `default` or `unconfined`."""
    no_new_privileges, seccomp = False, "default"
    for element in node.elements():
        word = element.text().replace(":", "=", 1)
        if word in ("no-new-privileges", "no-new-privileges=true", "no-new-privileges=false"):
            no_new_privileges = not word.endswith("false")
        elif word in ("seccomp=unconfined", "seccomp=default", "seccomp=builtin"):
            seccomp = "unconfined" if word.endswith("unconfined") else "default"
        elif word not in _WITHOUT_EFFECT:
            raise element.wrong(
                f"{element.value[:60]!r} is not supported; known are no-new-privileges, seccomp=unconfined, "
                "label=disable and apparmor=unconfined"
            )
    return no_new_privileges, seccomp


def security_opt_document(*, no_new_privileges: bool, seccomp: str) -> list[str]:
    return [
        *(["no-new-privileges"] if no_new_privileges else []),
        *([f"seccomp={seccomp}"] if seccomp != "default" else []),
    ]
