"""What differs between a container's recorded declaration and a wanted one, key by Compose key."""

from __future__ import annotations

import json

from bayplan.model.container import Container, File
from bayplan.model.names import image_key
from bayplan.model.service import RECORDED, parse_service, service_document
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# What the kernel, the firewall or the monitor can change under a live container; everything else makes a new one.
IN_PLACE = frozenset({
    "mem_limit", "mem_reservation", "memswap_limit", "cpus", "cpu_shares", "cpuset", "cpuset_mems", "pids_limit",
    "restart", "labels", "annotations", "stop_signal", "stop_grace_period", "healthcheck", "depends_on", "pull_policy",
    "auto_remove", "expose", "networks", "ports", "project", "service",
})  # fmt: skip
_LONGEST = 120


class Change(NamedTuple):
    """`old` and `new` are the key's values in the two documents, None where it is not there."""

    key: str
    old: Any
    new: Any


def container_changes(have: Container, want: Container) -> tuple[Change, ...]:
    """The keys that differ, sorted. Contents of files are compared by digest; what the image decides is in neither."""
    old, new = comparable(have), comparable(want)
    return tuple(
        Change(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if not _equal(key, old.get(key), new.get(key))
    )


def comparable(container: Container) -> dict[str, Any]:
    """The service's document with our own keys beside Compose's."""
    document = service_document(container)
    extension = document.pop("x-bayplan", {})
    return {**document, **extension}


def _equal(key: str, old: Any, new: Any) -> bool:
    if key == "image" and old and new:
        return image_key(old) == image_key(new)
    return bool(old == new)


def is_in_place(change: Change) -> bool:
    """Whether the change leaves the container's process alone."""
    if change.key == "logging":  # size and count are the monitor's own matter, another driver is another monitor
        return _driver(change.old) == _driver(change.new)
    return change.key in IN_PLACE


def _driver(logging: Any) -> str:
    return str(logging["driver"]) if logging else "json-file"


def settled_spec(have: Container, want: Container, *, ignore: tuple[str, ...] = (), replace: bool = True) -> Container:
    """The declaration that is recorded after a converge of `have` to `want`.

    Keys in `ignore` keep what `have` says; without `replace` so does every key that is not changeable in place.
    """
    kept = {*ignore}
    if not replace:
        kept.update(change.key for change in container_changes(have, want) if not is_in_place(change))
    if not kept:
        return want
    old, new = comparable(have), comparable(want)
    merged = {**{key: new[key] for key in new if key not in kept}, **{key: old[key] for key in old if key in kept}}
    own = ("auto_remove", "profile", "systemd", "cpuset_mems", "project", "service")
    extension = {key: merged.pop(key) for key in own if key in merged}
    spec = parse_service(want.name, {**merged, "x-bayplan": extension}, RECORDED)
    return spec._replace(files=tuple(_with_content(file, want.files) for file in spec.files))


def _with_content(file: File, declared: tuple[File, ...]) -> File:
    return next((each for each in declared if each._replace(content="") == file), file)


def describe(change: Change) -> str:
    """One line for a step's `why`. Variables are named without their values, files without their contents."""
    if change.key == "environment":
        return f"environment: {_names(change.old or {}, change.new or {})}"
    if change.key in ("secrets", "configs"):
        return _describe_files(change)
    return f"{change.key}: {_text(change.old)} -> {_text(change.new)}"


def _names(old: dict[str, Any], new: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {'added' if name not in old else 'removed' if name not in new else 'changed'}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _describe_files(change: Change) -> str:
    kind = change.key[:-1]
    old = {each["target"]: each for each in change.old or ()}
    new = {each["target"]: each for each in change.new or ()}
    same = [target for target in new if target in old and old[target] != new[target]]
    if same and old.keys() == new.keys() and all(old[each]["x-digest"] != new[each]["x-digest"] for each in same):
        return ", ".join(f"content of {kind} {new[target]['source']} changed" for target in same)
    return f"{change.key}: {_names(old, new)}"


def _text(value: Any) -> str:
    if value is None:
        return "default"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
