"""Writing what was found: tables with Docker's columns, JSON, templates. Nothing from outside reaches a terminal raw."""

from __future__ import annotations

import sys

from bayplan.cli.call import Call
from bayplan.errors import BayplanError
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeAlias

Columns: TypeAlias = "Sequence[tuple[str, str]]"
Document: TypeAlias = "Mapping[str, Any]"


def write(text: str) -> None:
    """One line to stdout. Bytes that were no UTF-8 leave as they came."""
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "surrogateescape"))


def complain(error: BaseException) -> None:
    """One line of an error to stderr, where others of its kind go on."""
    sys.stderr.write(f"bayplan: {printable(str(error), kept=chr(10))}\n")


def json_text(value: object, *, indent: int = 0) -> str:
    """JSON in one line without spaces, or with `indent` spaces a level. The package json would bring re and enum along."""
    try:
        from _json import encode_basestring, encode_basestring_ascii
    except ImportError:
        from json.encoder import py_encode_basestring as encode_basestring
        from json.encoder import py_encode_basestring_ascii as encode_basestring_ascii

    def quote(text: str) -> str:  # JSON itself lets pass what a terminal obeys from 0x7f on
        quoted = encode_basestring(text)
        return quoted if quoted.isprintable() else "".join(c if c.isprintable() else encode_basestring_ascii(c)[1:-1] for c in quoted)

    return _json(value, quote, " " * indent, "\n" if indent else "")


def _json(value: object, quote: Callable[[str], str], step: str, line: str) -> str:
    """`line` is the line break that stands before a member's end, with its indentation."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    inner = line + step
    if isinstance(value, dict):
        colon = ": " if step else ":"
        members = [f"{quote(str(key))}{colon}{_json(each, quote, step, inner)}" for key, each in value.items()]
        return f"{{{inner}{f',{inner}'.join(members)}{line}}}" if members else "{}"
    if isinstance(value, (list, tuple)):
        members = [_json(each, quote, step, inner) for each in value]
        return f"[{inner}{f',{inner}'.join(members)}{line}]" if members else "[]"
    return quote(str(value))


def quoted(text: str) -> str:
    """Between double quotes, as `ps` shows a command; what is not printable is escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def printable(text: str, *, kept: str = "") -> str:
    """Control characters escaped: a label or a command may hold what a terminal obeys."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in kept else char.encode("unicode_escape", "replace").decode() for char in text)


def escaped_at_terminal(text: str) -> str:
    """A template's result: as it is for a program that reads it, its control characters escaped where a terminal would obey them."""
    return printable(text, kept="\n\t") if sys.stdout.isatty() else text


def listing(call: Call, documents: Iterable[Document], columns: Columns, *, identity: str = "ID") -> int:
    """A list as -q and --format ask for it: a table of `columns` (heading and member), JSON lines, a template each line."""
    shown = call.text("format")
    if call.flag("quiet"):
        for each in documents:
            write(str(each[identity]))
    elif shown == "json":
        for each in documents:
            write(json_text(each))
    elif not shown or shown == "table":
        table([heading for heading, _ in columns], ([str(each[member]) for _, member in columns] for each in documents))
    else:
        _templated(shown, documents, columns)
    return 0


def _templated(shown: str, documents: Iterable[Document], columns: Columns) -> None:
    from bayplan.cli.template import fields, parse, render

    is_table = shown.startswith("table ")
    nodes = parse((shown[6:] if is_table else shown).replace("\\t", "\t").replace("\\n", "\n"))
    lines = [render(nodes, each) for each in documents]
    if not is_table:
        for line in lines:
            write(escaped_at_terminal(line))
        return
    headings = {member: heading for heading, member in columns}
    first = "\t".join(headings.get(name, name.upper()) for name in fields(nodes))
    table(first.split("\t"), (line.split("\t") for line in lines))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as what is in them, three spaces apart."""
    lines = [list(headings), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines if index < len(line)) for index in range(max(map(len, lines)))]
    for line in lines:
        write("   ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def each(names: Iterable[str], act: Callable[[str], object], *, echo: bool = True) -> int:
    """Do the same to each of several, and go on after an error, which is shown; 1 where there was one."""
    code = 0
    for name in names:
        try:
            act(name)
        except BayplanError as error:
            complain(error)
            code = 1
        else:
            if echo:
                write(name)
    return code


def short(identity: str) -> str:
    """The twelve digits that people know an id by."""
    return identity[7:19] if identity.startswith("sha256:") else identity[:12]


def clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def labels_text(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels)
