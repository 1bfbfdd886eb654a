"""Files of variables: `.env`, and what `env_file` names (Compose Specification, "Env_file format")."""

from __future__ import annotations

import re

from bayplan.model.interpolation import interpolate
from bayplan.model.node import Node
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(=?)[ \t]*", re.ASCII)
_IGNORED = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n|[ \t]*#[^\n]*\Z|[ \t]+\Z)+")
_QUOTED = {"'": re.compile(r"'([^']*)'"), '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)}
_BARE = re.compile(r"[^\n]*")
_TRAILING = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "$": "$$"}


def parse(text: str, environment: Mapping[str, str], *, raw: bool = False) -> dict[str, str | None]:
    """Variables in order; None is one that is only named. Values see `environment`, then the lines above.

    Raises Invalid, which names the line. `raw` takes every value literally, to the end of its line.
    """
    found: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        ignored = _IGNORED.match(text, position)
        position = ignored.end() if ignored else position
        if position < len(text):
            position = _line(text, position, environment, found, raw)
    return found


def _line(text: str, position: int, environment: Mapping[str, str], found: dict[str, str | None], raw: bool) -> int:
    place = Node(None, f"line {text.count(chr(10), 0, position) + 1}")
    start = _ASSIGNMENT.match(text, position)
    if not start:
        raise place.wrong("NAME=VALUE was expected")
    name, quote = start[1], text[start.end() : start.end() + 1]
    if not start[2]:
        end = _TRAILING.match(text, start.end())
        if not end:
            raise place.wrong("NAME=VALUE was expected")
        found[name] = environment.get(name)
        return end.end()
    if raw or quote not in _QUOTED:
        return _bare(text, start.end(), environment, found, raw=raw, name=name, place=place)
    match = _QUOTED[quote].match(text, start.end())
    end = match and _TRAILING.match(text, match.end())
    if not match or not end:
        raise place.wrong(f"the quotation of {name} is not closed, or something follows it")
    value = match[1]
    found[name] = value if quote == "'" else _expanded(_unescaped(value), environment, found, place)
    return end.end()


def _bare(
    text: str, start: int, environment: Mapping[str, str], found: dict[str, str | None], *, raw: bool, name: str, place: Node
) -> int:
    match = _BARE.match(text, start)
    line = match[0] if match else ""
    if raw:
        found[name] = line.rstrip("\r")
    else:
        value = re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip()
        found[name] = _expanded(value, environment, found, place)
    return start + len(line) + 1


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), text)


def _expanded(text: str, environment: Mapping[str, str], found: Mapping[str, str | None], place: Node) -> str:
    return interpolate(Node(text, place.place), lambda name: environment.get(name, found.get(name)))
