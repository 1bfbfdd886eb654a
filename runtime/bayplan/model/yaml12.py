"""YAML 1.2 as plain values, with bounds: what a Compose file may hold and a hostile one may not (Compose, "Merge": tags).

ruamel.yaml makes the graph of nodes; it is turned into values here, so that aliases are counted where they are expanded,
a key is there once, and no tag constructs anything but !reset and !override.
"""

from __future__ import annotations

import re

from bayplan.errors import Invalid
from bayplan.model import vendored
from bayplan.model.merging import RESET, Override
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

LONGEST_DOCUMENT = 4 << 20
_MOST_VALUES = 200_000
_DEEPEST = 100
_CORE = "tag:yaml.org,2002:"
_INTEGER = r"(?a)[-+]?[0-9]{1,30}"
_OCTAL = r"(?a)0o?[0-7]{1,30}"
_HEXADECIMAL = r"(?a)0x[0-9a-fA-F]{1,30}"
_NULLS = ("", "~", "null", "Null", "NULL")


def load(text: str, source: str) -> Any:
    """The one document in `text`, which messages call `source`. Raises Invalid."""
    if len(text) > LONGEST_DOCUMENT:
        raise Invalid(f"reading {source}: it is longer than {LONGEST_DOCUMENT} characters")
    directory = vendored.reach()
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ImportError as error:
        raise Invalid(f"reading {source}: ruamel.yaml is not in {directory}; run `make setup`") from error
    try:
        reader = YAML(typ="safe", pure=True)
        reader.composer.warn_double_anchors = False
        root = reader.compose(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"reading {source}: {_first_lines(error)}") from None
    return None if root is None else _Values(source).value(root, 0)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "^" not in line]
    return "; ".join(lines)[:300] or type(error).__name__


class _Values:
    """Turns nodes into values; counts what it makes, since ten aliases of ten aliases of ten are a thousand."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._made = 0
        self._open: set[int] = set()

    def value(self, node: Any, depth: int) -> Any:
        self._made += 1
        if self._made > _MOST_VALUES or depth > _DEEPEST:
            raise self._wrong(node, "aliases or nesting make it too large")
        if id(node) in self._open:
            raise self._wrong(node, "an alias stands inside what it names")
        self._open.add(id(node))
        found = self._tagged(node, depth)
        self._open.discard(id(node))
        return found

    def _tagged(self, node: Any, depth: int) -> Any:
        tag = str(node.tag)
        if tag == "!reset":
            return RESET
        found = self._collection(node, depth) if isinstance(node.value, list) else self._scalar(node, tag)
        return Override(found) if tag == "!override" else found

    def _collection(self, node: Any, depth: int) -> Any:
        if node.id == "sequence":
            return [self.value(element, depth + 1) for element in node.value]
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag) == f"{_CORE}merge":
                for mapping in self._merged(value_node, depth):
                    merged = {**mapping, **merged}
                continue
            key = self.value(key_node, depth + 1)
            if not isinstance(key, (str, int, float, bool)):
                raise self._wrong(key_node, "a key is a text")
            if str(key) in own:
                raise self._wrong(key_node, f"the key {str(key)!r} is there twice")
            own[_key(key)] = self.value(value_node, depth + 1)
        return {**merged, **own}

    def _merged(self, node: Any, depth: int) -> list[dict[Any, Any]]:
        value = self.value(node, depth + 1)
        found = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in found):
            raise self._wrong(node, "'<<' merges mappings")
        return found

    def _scalar(self, node: Any, tag: str) -> Any:
        text = str(node.value)
        kind = tag[len(_CORE) :] if tag.startswith(_CORE) else tag
        if kind in ("str", "timestamp", "!override", "value"):
            return text
        if kind == "null" and text in _NULLS:
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            return self._number(node, kind, text)
        raise self._wrong(node, f"the tag {tag[:60]!r} is not known here")

    def _number(self, node: Any, kind: str, text: str) -> Any:
        """A leading 0 is octal, as Docker's reader has it: file modes are written so."""
        if kind == "int" and re.fullmatch(_OCTAL, text) and text != "0":
            return int(text.replace("o", ""), 8)
        if kind == "int" and re.fullmatch(_HEXADECIMAL, text):
            return int(text, 16)
        if kind == "int" and re.fullmatch(_INTEGER, text):
            return int(text)
        try:
            number = float(text)
        except ValueError:
            return text
        if number != number or number in (float("inf"), float("-inf")) or kind == "int":
            return text
        return number

    def _wrong(self, node: Any, message: str) -> Invalid:
        mark = node.start_mark
        return Invalid(f"reading {self._source}, line {mark.line + 1}: {message}" if mark else f"reading {self._source}: {message}")


def _key(key: object) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)
