"""Archives of images and the records: what was taken in gets its names, what has names is written out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bayplan.engine import archives, clock, images, pull
from bayplan.engine.state import State
from bayplan.errors import Kernel
from bayplan.model.digest import parse_digest
from bayplan.model.reference import parse_reference
from bayplan.store import records


def load(state: State, source: str) -> tuple[str, ...]:
    """Take in and record every image of an archive under the names that it gives them, taken from whatever had them.

    Returns the familiar names, or the id of an image without one. Raises what archives.load raises.
    """
    found = []
    with pull.using(state.root):
        for each in archives.load(source, root=state.root):
            row = images.record(state, each, tuple(parse_reference(name).canonical for name in each.names))
            found += [parse_reference(name).familiar for name in each.names] or [row.id]
    return tuple(found)


def import_(state: State, source: str, name: str, *, run: Mapping[str, Any] | None = None) -> str:
    """Make an image of a root file system's archive, called `name` ("" is nameless); `run` is its config's `config`. Its id."""
    canonical = (parse_reference(name).canonical,) if name else ()
    with pull.using(state.root):
        return images.record(state, archives.import_rootfs(source, root=state.root, created=clock.now(), run=run), canonical).id


def save(state: State, names: Sequence[str], target: str, *, format: str) -> None:
    """Write images with the names that they are asked for by to the file `target`, which appears when it is whole, or "-".

    Raises NotFound, Invalid, Kernel.
    """
    wanted = _wanted(state, names)
    if target == "-":
        archives.save(wanted, _to_stdout, root=state.root, format=format)
        return
    temporary = f"{target}.{os.getpid()}.new"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            archives.save(wanted, file.write, root=state.root, format=format)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, target)
    except BaseException as error:
        _unlink(temporary)
        if isinstance(error, OSError):
            raise Kernel(f"saving to {target}", error) from error
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _to_stdout(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _wanted(state: State, names: Sequence[str]) -> list[archives.Saved]:
    """Each image once, with all the names that it was asked for by; by id it has none."""
    found: dict[str, archives.Saved] = {}
    known = records.image_names(state.records)
    for name in names:
        row = images.find(state, name)
        canonical = parse_reference(name).canonical if not row.id[7:].startswith(name.replace("sha256:", "")) else ""
        there = found.get(row.id) or archives.Saved(parse_digest(row.id), tuple(map(parse_digest, row.blobs)), ())
        given = (canonical,) if canonical in known.get(row.id, ()) else ()
        found[row.id] = there._replace(names=tuple(dict.fromkeys((*there.names, *given))))
    return list(found.values())
