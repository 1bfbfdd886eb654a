"""Devices by their CDI name: the host's files that describe them, found and read when a container starts (model/cdi.py)."""

from __future__ import annotations

import os
import stat

from bayplan.errors import BayplanError, Invalid, NotFound, Unavailable
from bayplan.model import cdi
from bayplan.model.cdi import DeviceNode, Edits, Spec
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")  # the later one wins: what is made at boot describes what is there now
_LARGEST = 4 << 20
_SHOWN = 20


def edits(names: Iterable[str], directories: tuple[str, ...] = DIRECTORIES) -> tuple[Edits, ...]:
    """What the devices of these names change in a container, in order; a file's own edits once, before its first device's.

    Raises NotFound for a device that no file describes, Invalid where two files of one directory do, and for a node that is no device.
    A file that cannot be read is in nobody's way unless it may have been the one.
    """
    found, broken = _devices(directories)
    chosen: list[Edits] = []
    seen: list[str] = []
    for name in dict.fromkeys(names):
        path, spec, own = _choose(name, found.get(name, []), found, broken, directories)
        if path not in seen:
            seen.append(path)
            chosen.append(spec.edits)
        chosen.append(own)
    return tuple(_complete(each) for each in chosen)


def _devices(directories: tuple[str, ...]) -> tuple[dict[str, list[tuple[int, str, Spec, Edits]]], list[str]]:
    """Every device's descriptions as (place of the directory, file, its content, the device's edits), and what is wrong with files."""
    found: dict[str, list[tuple[int, str, Spec, Edits]]] = {}
    broken = []
    for rank, directory in enumerate(directories):
        for path in _files(directory):
            try:
                spec = _read(path)
            except (BayplanError, OSError) as error:
                broken.append(str(error))
                continue
            for name, own in spec.devices:
                found.setdefault(f"{spec.kind}={name}", []).append((rank, path, spec, own))
    return found, broken


def _files(directory: str) -> list[str]:
    try:
        return sorted(entry.path for entry in os.scandir(directory) if entry.name.endswith((".json", ".yaml")))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(path: str) -> Spec:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Invalid(f"{path}: it is not a file")
        data = b""
        while len(data) <= _LARGEST and (chunk := os.read(fd, 1 << 20)):
            data += chunk
    finally:
        os.close(fd)
    if len(data) > _LARGEST:
        raise Invalid(f"{path}: it is larger than {_LARGEST} bytes")
    return cdi.parse_spec(_load(data, path), path)


def _load(data: bytes, path: str) -> Any:
    if path.endswith(".json"):
        from bayplan.model.document import load_json

        return load_json(data, _LARGEST, path)
    from bayplan.model import yaml12  # ruamel.yaml takes 100 ms: only where a file needs it

    try:
        return yaml12.load(data.decode(), path)
    except UnicodeDecodeError as error:
        raise Invalid(f"reading {path}: it is not UTF-8") from error


def _choose(
    name: str,
    described: list[tuple[int, str, Spec, Edits]],
    found: Iterable[str],
    broken: list[str],
    directories: tuple[str, ...],
) -> tuple[str, Spec, Edits]:
    if not described:
        kind = name.partition("=")[0]
        near = sorted(each for each in found if each.startswith(f"{kind}=")) or sorted(found)
        there = f"there are {', '.join(near[:_SHOWN])}" if near else "there is none"
        trouble = f"; not readable: {'; '.join(broken[:_SHOWN])}" if broken else ""
        raise NotFound(f"giving the device {name}: no file in {' or '.join(directories)} describes it; {there}{trouble}")
    highest = max(rank for rank, *_ in described)
    best = [each for each in described if each[0] == highest]
    if len(best) > 1:
        raise Invalid(f"giving the device {name}: {' and '.join(path for _, path, _, _ in best)} both describe it; remove one")
    return best[0][1:]


def _complete(chosen: Edits) -> Edits:
    """With what the host says of its nodes, and without what this runtime does not do."""
    if chosen.intel_rdt:
        raise Unavailable("giving a device: its CDI file asks for intelRdt (resctrl), which is not supported here")
    return chosen._replace(nodes=tuple(_filled(node) for node in chosen.nodes))


def _filled(node: DeviceNode) -> DeviceNode:
    """A node whose file leaves out what it is takes that from the host's."""
    if node.type and (node.major or node.type == "p"):
        return node
    try:
        there = os.lstat(node.host_path)
    except OSError as error:
        raise NotFound(f"giving the device {node.path}: {node.host_path} on the host: {error.strerror}") from error
    kinds = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
    kind = kinds.get(stat.S_IFMT(there.st_mode), "")
    if not kind or (node.type and node.type.replace("u", "c") != kind):
        wanted = f"of the type {node.type} that its CDI file says" if kind else "a device node"
        raise Invalid(f"giving the device {node.path}: {node.host_path} on the host is not {wanted}")
    if kind == "p":
        return node._replace(type=kind)
    return node._replace(type=node.type or kind, major=os.major(there.st_rdev), minor=os.minor(there.st_rdev))
