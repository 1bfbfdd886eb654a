"""registries.conf, version 2: which registries have mirrors, are insecure, blocked, or somewhere else.

Source: containers-registries.conf(5). Its TOML is a small one, which is read here by hand: Python's own parser came with
3.11, and hosts may have 3.9. Keys that do not concern a pull are passed over.
"""

from __future__ import annotations

import re
from typing import Union

from bayplan.errors import Denied, Invalid
from bayplan.model.reference import Reference
from bayplan.model.value import NamedTuple

_LIMIT = 1 << 20
_KEY = r'[A-Za-z0-9_-]+|"[^"\\\n]*"|\'[^\'\n]*\''
_TABLE = re.compile(rf"(\[\[?)\s*((?:{_KEY})(?:\s*\.\s*(?:{_KEY}))*)\s*(\]\]?)\s*\Z")
_PAIR = re.compile(rf"((?:{_KEY})(?:\s*\.\s*(?:{_KEY}))*)\s*=\s*(.*)\Z", re.DOTALL)
_TOKEN = re.compile(r'\s*(?:("(?:[^"\\\n]|\\.)*")|(\'[^\'\n]*\')|(true|false)\b|([+-]?[0-9_]+)|([\[\],]))')

Value = Union[str, bool, int, list["Value"]]
Table = dict[str, Value]


class Endpoint(NamedTuple):
    """One place to ask for an image: `location` is HOST[:PORT]; only an insecure one may speak plain HTTP."""

    location: str
    repository: str
    insecure: bool = False


class Mirror(NamedTuple):
    location: str
    insecure: bool
    pull: str  # all, digest-only, tag-only


class Registry(NamedTuple):
    """An entry: `prefix` of image names (`*.` in front matches subdomains), replaced by `location`."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[Mirror, ...]


def parse_registries(text: str, *, path: str) -> tuple[Registry, ...]:
    """Read a registries.conf; raises Invalid and names the line."""
    if len(text) > _LIMIT:
        raise Invalid(f"reading {path}: it is over {_LIMIT} characters long")
    tables: list[tuple[Table, list[Table]]] = []
    current: Table = {}
    for number, line in _statements(text):
        where = f"reading {path}, line {number}"
        header = _TABLE.match(line)
        if header and len(header[1]) == len(header[3]):
            current = _open_table(re.sub(r"\s", "", header[2]), tables, where)
            continue
        pair = _PAIR.match(line)
        if not pair:
            raise Invalid(f"{where}: it is neither a table nor KEY = VALUE")
        current[pair[1].strip("\"'")] = _value(pair[2], where)
    return tuple(_registry(table, mirrors, path) for table, mirrors in tables)


def _open_table(name: str, tables: list[tuple[Table, list[Table]]], where: str) -> Table:
    table: Table = {}
    if name == "registry":
        tables.append((table, []))
    elif name == "registry.mirror":
        if not tables:
            raise Invalid(f"{where}: a mirror before its registry")
        tables[-1][1].append(table)
    elif name.startswith("registries."):
        raise Invalid(f"{where}: this is version 1 of the format; write [[registry]] tables")
    return table  # any other one is read and forgotten


def _statements(text: str) -> list[tuple[int, str]]:
    """Lines without comments and blank ones; an array may go over several."""
    found: list[tuple[int, str]] = []
    open_array = False
    for number, line in enumerate(text.splitlines(), 1):
        line = _without_comment(line).strip()
        if open_array:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line}")
        elif line:
            found.append((number, line))
        else:
            continue
        statement = _without_strings(found[-1][1])
        open_array = not _TABLE.match(found[-1][1]) and "=" in statement and statement.count("[") > statement.count("]")
    return found


def _without_strings(text: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', '""', text)


def _without_comment(line: str) -> str:
    matched = re.match(r'(?:[^"\'#]|"(?:[^"\\]|\\.)*"|\'[^\']*\')*', line)
    rest = line[matched.end() :] if matched else ""
    return line[: len(line) - len(rest)] if rest.startswith("#") else line


def _value(text: str, where: str) -> Value:
    value, at = _parse_value(text, 0, where, 0)
    if text[at:].strip():
        raise Invalid(f"{where}: unexpected {text[at:].strip()[:40]!r}")
    return value


def _parse_value(text: str, at: int, where: str, depth: int) -> tuple[Value, int]:
    token = _TOKEN.match(text, at)
    if not token or depth > 4:
        raise Invalid(f"{where}: expected a string, true, false, a number or an array at {text[at : at + 40]!r}")
    double, single, boolean, number, sign = token.groups()
    if double:
        return _unescape(double[1:-1], where), token.end()
    if single:
        return single[1:-1], token.end()
    if boolean:
        return boolean == "true", token.end()
    if number:
        return int(number[:20].replace("_", "") or "0"), token.end()
    if sign != "[":
        raise Invalid(f"{where}: unexpected {sign!r}")
    return _parse_array(text, token.end(), where, depth)


def _parse_array(text: str, at: int, where: str, depth: int) -> tuple[Value, int]:
    found: list[Value] = []
    while True:
        end = re.compile(r"\s*\]").match(text, at)
        if end:
            return found, end.end()
        value, at = _parse_value(text, at, where, depth + 1)
        found.append(value)
        comma = re.compile(r"\s*(,|(?=\]))").match(text, at)
        if not comma:
            raise Invalid(f"{where}: an array's elements are separated by commas")
        at = comma.end()


def _unescape(text: str, where: str) -> str:
    if "\\" not in text:
        return text
    if re.search(r'\\[^"\\]', text):
        raise Invalid(f'{where}: only \\" and \\\\ are understood as escapes')
    return re.sub(r"\\(.)", r"\1", text)


def _registry(table: Table, mirrors: list[Table], path: str) -> Registry:
    location = _text(table, "location", path)
    prefix = _text(table, "prefix", path) or location
    if not prefix or (not location and not prefix.startswith("*.")):
        raise Invalid(f"reading {path}: a registry has neither a location nor a prefix that stands for one")
    found = tuple(_mirror(each, table, path) for each in mirrors)
    return Registry(prefix.rstrip("/"), location.rstrip("/"), _flag(table, "insecure", path), _flag(table, "blocked", path), found)


def _mirror(table: Table, registry: Table, path: str) -> Mirror:
    location = _text(table, "location", path)
    if not location:
        raise Invalid(f"reading {path}: a mirror has no location")
    digests_only = _flag(registry, "mirror-by-digest-only", path)
    pull = _text(table, "pull-from-mirror", path) or ("digest-only" if digests_only else "all")
    if pull not in ("all", "digest-only", "tag-only"):
        raise Invalid(f"reading {path}: pull-from-mirror is {pull!r}, not all, digest-only or tag-only")
    return Mirror(location.rstrip("/"), _flag(table, "insecure", path), pull)


def _text(table: Table, key: str, path: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or any(character <= " " or character >= "\x7f" for character in value):
        raise Invalid(f"reading {path}: {key} is not plain text")
    return value


def _flag(table: Table, key: str, path: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise Invalid(f"reading {path}: {key} is neither true nor false")
    return value


def endpoints(reference: Reference, registries: tuple[Registry, ...]) -> tuple[Endpoint, ...]:
    """Where to ask for an image, in order: its mirrors, then its own place. Raises Denied for a blocked registry."""
    name = f"{reference.registry}/{reference.repository}"
    matching = [(len(each.prefix), each) for each in registries if _matches(each.prefix, name)]
    if not matching:
        return (Endpoint(reference.registry, reference.repository),)
    entry = max(matching, key=lambda pair: pair[0])[1]
    if entry.blocked:
        raise Denied(f"pulling {reference}: registries.conf blocks {entry.prefix}")
    kind = "digest-only" if reference.digest else "tag-only"
    rest = f"/{reference.repository}" if entry.prefix.startswith("*.") else name[len(entry.prefix) :]
    mirrors = [_endpoint(mirror.location + rest, mirror.insecure) for mirror in entry.mirrors if mirror.pull in ("all", kind)]
    return (*mirrors, _endpoint(entry.location + rest if entry.location else name, entry.insecure))


def _matches(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):
        return name.partition("/")[0].partition(":")[0].endswith(prefix[1:])
    return name == prefix or name.startswith((f"{prefix}/", f"{prefix}:"))


def _endpoint(name: str, insecure: bool) -> Endpoint:
    location, _, repository = name.partition("/")
    return Endpoint(location, repository, insecure)
