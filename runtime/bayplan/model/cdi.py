"""The Container Device Interface, versions 0.3 to 1.0 of its specification: what a vendor's file says of its devices, as edits to a Config.

A device is called `vendor.com/class=name` where a container is declared. The file that describes it may give the container variables,
nodes, mounts, hooks, groups. Files are found and read by engine/cdi.py.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.runtime import Config, Device, DeviceRule, Hook, Hooks, IntelRdt, Mount
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0")
_KIND = r"(?a)(?=[^/]{1,253}/)[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_NAME = r"(?a)[A-Za-z0-9](?:[A-Za-z0-9_.:-]{0,253}[A-Za-z0-9])?"
_MOST = 10_000
_HOOKS = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
_EDITS = ("env", "deviceNodes", "mounts", "hooks", "additionalGids", "additionalGIDs", "intelRdt")
_NODE = ("path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid")
_LAST_ID = (1 << 32) - 2


class DeviceNode(NamedTuple):
    """A node at `path` inside. `type` is empty where the host's node at `host_path` says what it is. None: not given."""

    path: str
    host_path: str
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = "rwm"
    uid: int | None = None
    gid: int | None = None


class Edits(NamedTuple):
    """What a device changes in a container's configuration. `hooks` holds (field of Hooks, hook)."""

    env: tuple[str, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[tuple[str, Hook], ...] = ()
    gids: tuple[int, ...] = ()
    intel_rdt: IntelRdt | None = None


class Spec(NamedTuple):
    """One file. `edits` are made once if any of its devices is given, before that device's own."""

    kind: str
    devices: tuple[tuple[str, Edits], ...]
    edits: Edits = Edits()


def parse_name(node: Node) -> str:
    """A device's full name, `vendor.com/class=name`."""
    kind, _, name = node.text().partition("=")
    if not fullmatch(_KIND, kind) or not fullmatch(_NAME, name):
        raise node.expected("a CDI device such as vendor.com/class=name")
    return f"{kind}={name}"


def parse_spec(document: object, source: str) -> Spec:
    """One CDI file that was read as JSON or YAML, and is called `source` in errors. Invalid names what is wrong, and where.

    An unknown member is an error, and one that is newer than the file's own version: the specification asks for both.
    """
    members = Node(document, source).members(("cdiVersion", "kind", "annotations", "devices", "containerEdits"))
    for needed in ("cdiVersion", "kind", "devices"):
        if needed not in members:
            raise Invalid(f"{source}: {needed} is missing")
    version = members["cdiVersion"].text().removeprefix("v")
    if version not in VERSIONS:
        raise members["cdiVersion"].expected(f"a version of CDI from {VERSIONS[0]} to {VERSIONS[-1]}")
    age = _Age(version)
    kind = _kind(members["kind"], age)
    _annotations(members, age)
    devices = tuple(_device(node, age) for node in _bounded(members["devices"]))
    if not devices:
        raise members["devices"].expected("at least one device")
    if len({name for name, _ in devices}) < len(devices):
        raise members["devices"].wrong("two devices have one name")
    return Spec(kind, devices, _edits(members["containerEdits"], age) if "containerEdits" in members else Edits())


class _Age:
    """The version of a file, which bounds what may be in it."""

    def __init__(self, version: str) -> None:
        self._place, self._version = VERSIONS.index(version), version

    def needs(self, version: str, node: Node) -> None:
        if self._place < VERSIONS.index(version):
            raise node.wrong(f"this is of version {version}, and the file says that it is of {self._version}")


def _kind(node: Node, age: _Age) -> str:
    if not fullmatch(_KIND, node.text()):
        raise node.expected("a kind such as vendor.com/class")
    if "." in node.value.partition("/")[2]:
        age.needs("0.6.0", node)
    return str(node.value)


def _annotations(members: dict[str, Node], age: _Age) -> None:
    """They say nothing to a runtime; what they are is checked all the same."""
    if "annotations" in members:
        age.needs("0.6.0", members["annotations"])
        for _, each in members["annotations"].entries():
            each.text()


def _device(node: Node, age: _Age) -> tuple[str, Edits]:
    members = node.members(("name", "annotations", "containerEdits"))
    if "name" not in members or "containerEdits" not in members:
        raise node.wrong("name and containerEdits are needed")
    name = members["name"]
    if not fullmatch(_NAME, name.text()):
        raise name.expected("a device's name")
    if not name.value[0].isalpha():
        age.needs("0.5.0", name)
    _annotations(members, age)
    edits = _edits(members["containerEdits"], age)
    if edits == Edits():
        raise members["containerEdits"].wrong("it changes nothing")
    return name.value, edits


def _bounded(node: Node) -> list[Node]:
    elements = node.elements()
    if len(elements) > _MOST:
        raise node.expected(f"a list of at most {_MOST}")
    return elements


def _listed(members: dict[str, Node], key: str) -> list[Node]:
    return _bounded(members[key]) if key in members else []


def _edits(node: Node, age: _Age) -> Edits:
    members = node.members(_EDITS)
    for key in ("additionalGids", "additionalGIDs", "intelRdt"):
        if key in members:
            age.needs("0.7.0", members[key])
    gids = (*_listed(members, "additionalGids"), *_listed(members, "additionalGIDs"))
    return Edits(
        env=tuple(_variable(each) for each in _listed(members, "env")),
        nodes=tuple(_node(each, age) for each in _listed(members, "deviceNodes")),
        mounts=tuple(_mount(each, age) for each in _listed(members, "mounts")),
        hooks=tuple(_hook(each) for each in _listed(members, "hooks")),
        gids=tuple(gid for gid in (each.integer(0, _LAST_ID) for each in gids) if gid),  # "values of 0 are ignored"
        intel_rdt=_intel_rdt(members["intelRdt"]) if "intelRdt" in members else None,
    )


def _variable(node: Node) -> str:
    if node.text().find("=") < 1:
        raise node.expected("a variable such as NAME=value")
    return node.text()


def _path(members: dict[str, Node], key: str, node: Node) -> str:
    if key not in members:
        raise node.wrong(f"{key} is missing")
    text = members[key].text()
    if not text.startswith("/") or ".." in text.split("/"):
        raise members[key].expected("an absolute path without ..")
    return text


def _node(node: Node, age: _Age) -> DeviceNode:
    members = node.members(_NODE)
    path = _path(members, "path", node)
    if "hostPath" in members:
        age.needs("0.5.0", members["hostPath"])
    return DeviceNode(
        path,
        _path(members, "hostPath", node) if "hostPath" in members else path,
        members["type"].choice("", "b", "c", "u", "p") if "type" in members else "",
        _number(members, "major", (1 << 12) - 1) or 0,
        _number(members, "minor", (1 << 20) - 1) or 0,
        _number(members, "fileMode", 0o7777),
        _permissions(members["permissions"]) if "permissions" in members else "rwm",
        _number(members, "uid", _LAST_ID),
        _number(members, "gid", _LAST_ID),
    )


def _number(members: dict[str, Node], key: str, most: int) -> int | None:
    return members[key].integer(0, most) if key in members else None


def _permissions(node: Node) -> str:
    if node.text() == "none":
        return ""
    if set(node.value) - set("rwm"):
        raise node.expected("permissions of r, w and m, or none")
    return "".join(letter for letter in "rwm" if letter in node.value) or "rwm"


def _mount(node: Node, age: _Age) -> Mount:
    members = node.members(("hostPath", "containerPath", "type", "options"))
    if "type" in members:
        age.needs("0.4.0", members["type"])
    kind = members["type"].text() if "type" in members else ""
    options = tuple(each.text() for each in _listed(members, "options"))
    if "hostPath" not in members or not members["hostPath"].text():
        raise node.wrong("hostPath is missing")
    bind = kind in ("", "bind") or "bind" in options or "rbind" in options
    source = _path(members, "hostPath", node) if bind else members["hostPath"].text()
    return Mount(_path(members, "containerPath", node), kind or "bind", source, options)


def _hook(node: Node) -> tuple[str, Hook]:
    members = node.members(("hookName", "path", "args", "env", "timeout"))
    if "hookName" not in members:
        raise node.wrong("hookName is missing")
    return _HOOKS[members["hookName"].choice(*_HOOKS)], Hook(
        _path(members, "path", node),
        tuple(each.text() for each in _listed(members, "args")),
        tuple(_variable(each) for each in _listed(members, "env")),
        members["timeout"].integer(1) if "timeout" in members else None,
    )


def _intel_rdt(node: Node) -> IntelRdt:
    members = node.members(("closID", "l3CacheSchema", "memBwSchema", "enableCMT", "enableMBM"))
    name, cache, bandwidth = (members[key].text() if key in members else "" for key in ("closID", "l3CacheSchema", "memBwSchema"))
    occupancy, traffic = (key in members and members[key].boolean() for key in ("enableCMT", "enableMBM"))
    if name in (".", "..") or "\n" in name or ("/" in name and name != "/"):
        raise members["closID"].expected("the name of a class of service")
    return IntelRdt(name, cache, bandwidth, occupancy, traffic)


def inject(config: Config, edits: Iterable[Edits]) -> Config:
    """`config` with the edits made, in order. Every node says by now which device it is (engine/cdi.py asks the host)."""
    for each in edits:
        config = _edited(config, each)
    return config


def _edited(config: Config, edits: Edits) -> Config:
    user, linux = config.process.user, config.linux
    user = user._replace(additional_gids=tuple(dict.fromkeys((*user.additional_gids, *edits.gids))))
    process = config.process._replace(env=_with_variables(config.process.env, edits.env), user=user)
    paths = {node.path for node in edits.nodes}
    linux = linux._replace(
        devices=(*(each for each in linux.devices if each.path not in paths), *(_as_device(each, config) for each in edits.nodes)),
        resources=linux.resources._replace(devices=(*linux.resources.devices, *_rules(edits.nodes))),
        intel_rdt=edits.intel_rdt or linux.intel_rdt,
    )
    return config._replace(process=process, linux=linux, mounts=_with_mounts(config.mounts, edits.mounts), hooks=_with_hooks(config, edits))


def _with_variables(env: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """A later value of a name takes the place of an earlier one."""
    merged = {entry.partition("=")[0]: entry for entry in (*env, *more)}
    return tuple(merged.values())


def _as_device(node: DeviceNode, config: Config) -> Device:
    """Nodes are root's, or the first process's user's where that is a number (as CDI's own library has it)."""
    assert node.type, f"{node.path} has a type by now"
    mode = 0o666 if node.file_mode is None else node.file_mode
    uid = config.process.user.uid if node.uid is None else node.uid
    gid = config.process.user.gid if node.gid is None else node.gid
    return Device(node.path, node.type, node.major, node.minor, mode, uid, gid)


def _rules(nodes: tuple[DeviceNode, ...]) -> tuple[DeviceRule, ...]:
    kinds = {"u": "c", "c": "c", "b": "b"}
    return tuple(
        DeviceRule(True, kinds[node.type], node.major, node.minor, node.permissions)
        for node in nodes
        if node.type in kinds and node.permissions
    )


def _with_mounts(mounts: tuple[Mount, ...], more: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """One on a place that has one takes its place; parents come before children."""
    places = {_place(mount) for mount in more}
    if not places:
        return mounts
    return tuple(sorted((*(each for each in mounts if _place(each) not in places), *more), key=lambda each: len(_place(each))))


def _place(mount: Mount) -> tuple[str, ...]:
    return tuple(part for part in mount.destination.split("/") if part not in ("", "."))


def _with_hooks(config: Config, edits: Edits) -> Hooks | None:
    hooks = config.hooks
    for field, hook in edits.hooks:
        hooks = hooks or Hooks()
        hooks = hooks._replace(**{field: (*getattr(hooks, field), hook)})
    return hooks
