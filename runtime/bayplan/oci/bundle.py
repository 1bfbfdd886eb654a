"""A bundle's config.json, read and made complete with what every container has."""

from __future__ import annotations

import os

from bayplan.errors import Invalid, NotFound, Unavailable
from bayplan.model import bundle_parser, jsontext
from bayplan.model.runtime import Config, DeviceRule, Mount
from bayplan.model.value import TYPE_CHECKING
from bayplan.oci import record

if TYPE_CHECKING:
    from typing import Any

_LARGEST = 64 << 20
# runtime-spec, config-linux.md, "Default Devices": what the rules of a configuration cannot take away
_ALWAYS = (
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    *(DeviceRule(True, "c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    DeviceRule(True, "c", 5, 0),
    DeviceRule(True, "c", 5, 2),
    DeviceRule(True, "c", 136, None),
)


def load(directory: str) -> tuple[str, Config]:
    """The text of `directory`/config.json, and what it says; `root.path` is absolute. NotFound, Invalid, Unavailable."""
    path = f"{directory}/config.json"
    text = read(path)
    config = bundle_parser.parse_config(document(text, path))
    rootfs = os.path.join(directory, config.root.path)
    if not os.path.isdir(rootfs):
        raise NotFound(f"reading {path}: root.path: {rootfs} is not a directory")
    mounts = tuple(_absolute(mount, directory) for mount in config.mounts)
    return text, complete(config._replace(root=config.root._replace(path=rootfs), mounts=mounts))


def load_kept(root: str, found: record.Record) -> Config:
    """The configuration as it was when the container was created."""
    path = f"{record.directory(root, found.id)}/config.json"
    config = bundle_parser.parse_config(document(read(path), path))
    return complete(config._replace(root=config.root._replace(path=found.rootfs)))


def _absolute(mount: Mount, directory: str) -> Mount:
    """A bind's source is relative to the bundle (config.md, "Mounts")."""
    return mount._replace(source=os.path.join(directory, mount.source)) if mount.type == "bind" else mount


def complete(config: Config) -> Config:
    """The device controller's rules begin with none allowed, and end with the default devices allowed, as runc has it."""
    resources = config.linux.resources
    resources = resources._replace(devices=(DeviceRule(False), *resources.devices, *_ALWAYS))
    return config._replace(linux=config.linux._replace(resources=resources))


def document(text: str, path: str) -> Any:
    """The JSON value. Invalid where it is none, or nested beyond all reason."""
    try:
        return jsontext.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"reading {path}: it is not JSON: {error}") from error


def read(path: str) -> str:
    """A file of JSON. NotFound, Invalid, Unavailable."""
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        remedy = "; --bundle names the directory that has it" if path.endswith("/config.json") else ""
        raise NotFound(f"reading {path}: no such file or directory{remedy}") from error
    except OSError as error:
        raise Unavailable(f"reading {path}: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise Invalid(f"reading {path}: it is larger than {_LARGEST >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"reading {path}: it is not UTF-8") from error
