"""Interpolation of variables by the Compose Specification ("Interpolation"): ${VAR}, with defaults, demands, replacements."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bayplan.model.merging import Override
from bayplan.model.node import Node
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

Lookup: TypeAlias = "Callable[[str], str | None]"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_DEEPEST = 20
_LONGEST = 1 << 20


class _Reader(NamedTuple):
    node: Node
    lookup: Lookup

    def expand(self, text: str, depth: int) -> str:
        """`text` with every variable replaced."""
        if depth > _DEEPEST:
            raise self.node.wrong(f"variables are nested more than {_DEEPEST} deep")
        parts: list[str] = []
        position = 0
        while (dollar := text.find("$", position)) >= 0:
            parts.append(text[position:dollar])
            value, position = self._one(text, dollar + 1, depth)
            parts.append(value)
        expanded = "".join([*parts, text[position:]])
        if len(expanded) > _LONGEST:
            raise self.node.wrong(f"interpolation makes it longer than {_LONGEST} characters")
        return expanded

    def _one(self, text: str, start: int, depth: int) -> tuple[str, int]:
        """The value of what follows a dollar sign, and the position behind it."""
        if text.startswith("$", start):
            return "$", start + 1
        if text.startswith("{", start):
            end = self._closing(text, start)
            return self._braced(text[start + 1 : end], depth), end + 1
        name = _NAME.match(text, start)
        if not name:
            raise self.node.wrong("a '$' begins a variable; write '$$' for the character itself")
        return self.lookup(name[0]) or "", name.end()

    def _closing(self, text: str, start: int) -> int:
        depth = 0
        for match in re.compile(r"\$\$|\$\{|\}").finditer(text, start - 1):
            depth += {"${": 1, "}": -1, "$$": 0}[match[0]]
            if depth == 0 and match[0] == "}":
                return match.start()
        raise self.node.wrong("a '${' is not closed")

    def _braced(self, inner: str, depth: int) -> str:
        name = _NAME.match(inner)
        rest = inner[name.end() :] if name else ""
        operator = next((each for each in _OPERATORS if rest.startswith(each)), "")
        if not name or (rest and not operator):
            raise self.node.wrong(f"'${{{inner[:40]}}}' is not a variable; write '$$' for the character itself")
        value = self.lookup(name[0])
        given = value is not None and (value != "" or ":" not in operator)
        word = rest[len(operator) :]
        if "+" in operator:
            return self.expand(word, depth + 1) if given else ""
        if given or not operator:
            return value or ""
        if "-" in operator:
            return self.expand(word, depth + 1)
        reason = self.expand(word, depth + 1) or "it is required"
        raise self.node.wrong(f"variable {name[0]} is {'empty' if value == '' else 'not set'}: {reason}")


def interpolate(node: Node, lookup: Lookup) -> str:
    """The text at `node` with variables replaced; an unset one is empty. Invalid where it is malformed or demanded."""
    return _Reader(node, lookup).expand(node.value, 0)


def interpolate_tree(node: Node, lookup: Lookup) -> Any:
    """A whole document: every text value, never a key."""
    if isinstance(node.value, Override):
        return node.value._replace(value=interpolate_tree(Node(node.value.value, node.place), lookup))
    if isinstance(node.value, Mapping):
        return {key: interpolate_tree(Node(each, f"{node.place}.{key}" if node.place else str(key)), lookup)
                for key, each in node.value.items()}  # fmt: skip
    if isinstance(node.value, (list, tuple)):
        return [interpolate_tree(each, lookup) for each in node.elements()]
    return interpolate(node, lookup) if isinstance(node.value, str) and "$" in node.value else node.value
