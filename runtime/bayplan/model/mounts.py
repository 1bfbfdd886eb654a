"""A service's `volumes` and `tmpfs`."""

from __future__ import annotations

from bayplan.model import names, units
from bayplan.model.container import Mount
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_IGNORED = ("rw", "z", "Z", "cached", "delegated", "consistent")
_LONG = ("type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs")
_SUBPATH = r"(?!/)(?:(?!\.\.?(?:/|$))[^/\0\n]+/)*(?!\.\.?$)[^/\0\n]+"
_TMPFS_OPTION = r"(?a)[a-z_]+(?:=[A-Za-z0-9_.%:-]+)?"
_TMPFS_WORDS = frozenset(
    "uid gid nr_inodes nr_blocks exec noexec suid nosuid dev nodev atime noatime relatime strictatime sync"
    " diratime nodiratime huge mpol inode64 inode32".split()
)


def parse_mounts(volumes: Node | None, tmpfs: Node | None, scope: Scope) -> tuple[Mount, ...]:
    """All mounts sorted by target, each target once."""
    found: dict[str, Mount] = {}
    for element in volumes.elements() if volumes else ():
        _add(found, element, _long(element, scope) if isinstance(element.value, dict) else _short(element, scope))
    for element in tmpfs.one_or_many() if tmpfs else ():
        _add(found, element, _tmpfs(element))
    return tuple(found[target] for target in sorted(found))


def mounts_document(mounts: tuple[Mount, ...]) -> dict[str, Any]:
    """`volumes` in their long form and `tmpfs`; parse_mounts reads both back."""
    volumes = [_long_document(mount) for mount in mounts if mount.kind != "tmpfs"]
    tmpfs = [_tmpfs_text(mount) for mount in mounts if mount.kind == "tmpfs"]
    return {**({"volumes": volumes} if volumes else {}), **({"tmpfs": tmpfs} if tmpfs else {})}


def _add(found: dict[str, Mount], node: Node, mount: Mount) -> None:
    if mount.target in found:
        raise node.wrong(f"two mounts have the target {mount.target}")
    found[mount.target] = mount


def _short(node: Node, scope: Scope) -> Mount:
    parts = node.text().split(":")
    if len(parts) > 3 or not all(parts):
        raise node.expected("a volume such as data:/var/lib/data or /srv/www:/www:ro")
    if len(parts) == 1:
        return Mount("volume", names.path(node))
    target = names.path(Node(parts[1], node.place))
    kind, source = _source(node, parts[0], scope)
    return _with_options(node, Mount(kind, target, source), parts[2].split(",") if len(parts) == 3 else [])


def _with_options(node: Node, mount: Mount, options: list[str]) -> Mount:
    for option in options:
        if option == "ro":
            mount = mount._replace(read_only=True)
        elif option == "nocopy" and mount.kind == "volume":
            mount = mount._replace(nocopy=True)
        elif option in PROPAGATIONS and mount.kind == "bind":
            mount = mount._replace(propagation=option)
        elif option not in _IGNORED:
            raise node.wrong(f"{option!r} is not an option of a {mount.kind} mount")
    return mount


def _source(node: Node, text: str, scope: Scope) -> tuple[str, str]:
    """A path is a bind mount, a name is a volume."""
    if text.startswith(("/", ".", "~")):
        return "bind", _host_path(node, text, scope)
    return "volume", names.volume(Node(scope.volume(node, text), node.place))


def _host_path(node: Node, text: str, scope: Scope) -> str:
    if text.startswith("~"):
        raise node.wrong("'~' is nobody's home on the host; write the absolute path")
    if "\n" in text or "\0" in text:
        raise node.expected("a path of one line")
    if text.startswith("/"):
        return names.clean(text)
    if not scope.directory:
        raise node.wrong(f"the path {text!r} is relative: give project_directory, or write the absolute path")
    return names.clean(f"{scope.directory}/{text}")


def _long(node: Node, scope: Scope) -> Mount:
    members = node.members(_LONG)
    for required in ("type", "target"):
        if required not in members:
            raise node.wrong(f"{required} is missing")
    kind = members["type"].choice("bind", "volume", "tmpfs")
    mount = Mount(kind, names.path(members["target"]), _long_source(node, kind, members.get("source"), scope))
    if "read_only" in members:
        mount = mount._replace(read_only=members["read_only"].boolean())
    for other in {"bind", "volume", "tmpfs"} - {kind}:
        if other in members:
            raise members[other].wrong(f"a mount of type {kind} has no options of {other}")
    if kind not in members:
        return mount
    return {"bind": _bind_options, "volume": _volume_options, "tmpfs": _tmpfs_options}[kind](mount, members[kind])


def _long_source(node: Node, kind: str, source: Node | None, scope: Scope) -> str:
    if kind == "bind":
        if source is None:
            raise node.wrong("a bind mount needs its source")
        return _host_path(source, source.text() or ".", scope)
    if source is None:
        return ""
    if kind == "tmpfs":
        raise source.wrong("a tmpfs has no source")
    return names.volume(Node(scope.volume(source, source.word()), source.place))


def _bind_options(mount: Mount, node: Node) -> Mount:
    members = node.members(("propagation", "create_host_path", "selinux", "recursive"))
    if "recursive" in members:
        members["recursive"].choice("enabled")
    return mount._replace(
        propagation=members["propagation"].choice(*PROPAGATIONS) if "propagation" in members else "rprivate",
        create_host_path=members["create_host_path"].boolean() if "create_host_path" in members else True,
    )


def _volume_options(mount: Mount, node: Node) -> Mount:
    members = node.members(("nocopy", "subpath"))
    subpath = members["subpath"].text() if "subpath" in members else ""
    if subpath and not fullmatch(_SUBPATH, subpath):
        raise members["subpath"].expected("a relative path without '.' and '..'")
    return mount._replace(nocopy="nocopy" in members and members["nocopy"].boolean(), subpath=subpath)


def _tmpfs_options(mount: Mount, node: Node) -> Mount:
    members = node.members(("size", "mode"))
    return mount._replace(
        size=units.size(members["size"]) if "size" in members else 0,
        mode=members["mode"].integer(0, 0o7777) if "mode" in members else 0,
    )


def _tmpfs(node: Node) -> Mount:
    """One line of `tmpfs`: "/run" or "/run:size=64m,mode=1777,uid=33" (mount(8), tmpfs)."""
    target, _, text = node.text().partition(":")
    mount, options = Mount("tmpfs", names.path(Node(target, node.place))), []
    for option in text.split(",") if text else ():
        key, _, value = option.partition("=")
        if key == "size":
            mount = mount._replace(size=units.size(Node(value, node.place)))
        elif key == "mode" and fullmatch("[0-7]{1,5}", value):
            mount = mount._replace(mode=int(value, 8) & 0o7777)
        elif option in ("ro", "rw"):
            mount = mount._replace(read_only=option == "ro")
        elif key in _TMPFS_WORDS and fullmatch(_TMPFS_OPTION, option):
            options.append(option)
        else:
            raise node.wrong(f"{option!r} is not an option of a tmpfs")
    return mount._replace(options=tuple(sorted(set(options))))


def _tmpfs_text(mount: Mount) -> str:
    options = [
        *([f"size={mount.size}"] if mount.size else []),
        *([f"mode={mount.mode:o}"] if mount.mode else []),
        *(["ro"] if mount.read_only else []),
        *mount.options,
    ]
    return mount.target + (":" + ",".join(options) if options else "")


def _long_document(mount: Mount) -> dict[str, Any]:
    document: dict[str, Any] = {"type": mount.kind, "target": mount.target}
    document.update({"source": mount.source} if mount.source else {})
    document.update({"read_only": True} if mount.read_only else {})
    options: dict[str, Any] = {
        **({"propagation": mount.propagation} if mount.propagation != "rprivate" else {}),
        **({} if mount.create_host_path else {"create_host_path": False}),
        **({"nocopy": True} if mount.nocopy else {}),
        **({"subpath": mount.subpath} if mount.subpath else {}),
    }
    return {**document, **({mount.kind: options} if options else {})}
