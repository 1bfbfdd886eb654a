"""Verbs that look at what containers and images are made of, and make images of it."""

from __future__ import annotations

import os
import sys

from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.output import clipped, escaped_at_terminal, listing, printable, short, write
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from bayplan.store.pack import LeftOut

_CREATED_BY_LENGTH = 45


def commit(call: Call) -> int:
    """Prints the new image's id; what a layer cannot have is named on stderr."""
    from bayplan.engine import changes

    state = call.state()
    from bayplan.engine import containers

    made = changes.commit(
        state,
        containers.find(state, call.arguments[0]),
        name=call.arguments[1] if len(call.arguments) > 1 else "",
        author=call.text("author"),
        message=call.text("message"),
        changes=call.many("change"),
        pausing=call.text("pause", "true") == "true",
        epoch=source_date_epoch(),
    )
    _warn(made.left_out)
    write(made.row.id)
    return 0


def diff(call: Call) -> int:
    from bayplan.engine import changes, containers

    state = call.state()
    for kind, path in changes.diff(state, containers.find(state, call.arguments[0])):
        write(f"{kind} {escaped_at_terminal(path)}")
    return 0


def export(call: Call) -> int:
    target = call.text("output", "-")
    if target == "-" and sys.stdout.isatty():
        raise Invalid("export: standard output is a terminal; name an archive with --output FILE")
    from bayplan.engine import changes, containers, images

    state = call.state()
    record = containers.find(state, call.arguments[0])
    found: list[LeftOut] = []
    images.write_to(target, lambda data: found.extend(changes.export(state, record, data).left_out))
    _warn(found)
    return 0


def history(call: Call) -> int:
    """The newest first; only the image itself has an id."""
    from bayplan.engine import history as engine
    from bayplan.engine import images

    state = call.state()
    human, full = call.text("human", "true") == "true", call.flag("no-trunc")
    documents = [_step(each, human=human, full=full) for each in engine.history(state, images.find(state, call.arguments[0]))]
    columns = (("IMAGE", "ID"), ("CREATED", "CreatedSince"), ("CREATED BY", "CreatedBy"), ("SIZE", "Size"), ("COMMENT", "Comment"))
    return listing(call, documents, columns if human else (columns[0], ("CREATED", "CreatedAt"), *columns[2:]))


def _step(step: Any, *, human: bool, full: bool) -> dict[str, Any]:
    return {
        "ID": (step.id if full else short(step.id)) or "<missing>",
        "CreatedSince": moments.ago(step.created),
        "CreatedAt": step.created,
        "CreatedBy": step.created_by if full else clipped(step.created_by, _CREATED_BY_LENGTH),
        "Size": moments.size(step.size) if human else str(step.size),
        "Comment": step.comment,
    }


def flatten(call: Call) -> int:
    """Prints the new image's id."""
    from bayplan.engine import flattening

    state = call.state()
    name = call.arguments[1] if len(call.arguments) > 1 else ""
    write(flattening.flatten(state, call.arguments[0], name, keep=call.number("keep"), epoch=source_date_epoch()).id)
    return 0


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH (reproducible-builds.org): seconds since 1970 after which no time in an image is; None where it says nothing."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 11:
        raise Invalid(f"reading SOURCE_DATE_EPOCH: {text[:40]!r} is not a number of seconds since 1970")
    return int(text)


def _warn(left_out: Iterable[LeftOut]) -> None:
    for each in left_out:
        sys.stderr.write(f"bayplan: left out {printable(each.path)}: {each.reason}\n")
