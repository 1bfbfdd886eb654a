"""A value inside a document, together with its place, so that every complaint names the place."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Node(NamedTuple):
    """`value` as a YAML or JSON reader gave it, found at `place` ("services.web.ports[1]")."""

    value: Any
    place: str

    def wrong(self, message: str) -> Invalid:
        """The error to raise: what is wrong at this place."""
        return Invalid(f"{self.place}: {message}")

    def expected(self, what: str) -> Invalid:
        """The error to raise where something else was expected; the value is shown shortened."""
        shown = repr(self.value)
        return self.wrong(f"{what} was expected, not {shown if len(shown) <= 60 else shown[:57] + '...'}")

    def text(self) -> str:
        """A string without a null character."""
        if not isinstance(self.value, str):
            raise self.expected("a string")
        if "\0" in self.value:
            raise self.wrong("a null character cannot be passed to the kernel")
        return self.value

    def word(self) -> str:
        """A non-empty string, or the digits of a whole number."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return str(self.value)
        text = self.text()
        if not text:
            raise self.expected("a non-empty string")
        return text

    def line(self) -> str:
        """A string of one line: what is written into files that are read by line."""
        text = self.word()
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise self.expected("a single line without control characters")
        return text

    def scalar(self) -> str:
        """A string, number or boolean as the text that Compose makes of it."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return str(self.value) if isinstance(self.value, (int, float)) else self.text()

    def boolean(self) -> bool:
        """A boolean, or the texts `true` and `false` that interpolation leaves."""
        if isinstance(self.value, bool):
            return self.value
        if isinstance(self.value, str) and self.value.lower() in ("true", "false"):
            return self.value.lower() == "true"
        raise self.expected("true or false")

    def integer(self, low: int = 0, high: int = 2**63 - 1) -> int:
        """A whole number between `low` and `high`, or its decimal digits."""
        value = self.value
        if isinstance(value, str) and len(value) < 21 and value.lstrip("-").isdecimal() and value.isascii():
            value = int(value) if value.count("-") <= 1 else value
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.expected(f"a whole number from {low} to {high}" if high < 2**63 - 1 else f"a whole number from {low}")
        return value

    def choice(self, *choices: str) -> str:
        """One of `choices`."""
        if not isinstance(self.value, str) or self.value not in choices:
            raise self.expected(f"one of {', '.join(choices)}")
        return self.value

    def elements(self) -> list[Node]:
        """The elements of a list."""
        if not isinstance(self.value, (list, tuple)):
            raise self.expected("a list")
        return [Node(element, f"{self.place}[{index}]") for index, element in enumerate(self.value)]

    def one_or_many(self) -> list[Node]:
        """The elements of a list, or the one thing that stands in its place."""
        return self.elements() if isinstance(self.value, (list, tuple)) else [self]

    def entries(self) -> list[tuple[str, Node]]:
        """The pairs of a mapping whose keys are strings; null is an empty one."""
        if self.value is None:
            return []
        if not isinstance(self.value, dict):
            raise self.expected("a mapping")
        for key in self.value:
            if not isinstance(key, str) or "\0" in key:
                raise self.wrong(f"the key {key!r} is not a string; quote it")
        return [(key, Node(value, f"{self.place}.{key}" if self.place else key)) for key, value in self.value.items()]

    def members(self, known: Iterable[str]) -> dict[str, Node]:
        """The entries of a mapping with a fixed set of keys. Null is absent, `x-*` is ignored, another key is an error."""
        found = {}
        for key, node in self.entries():
            if key in known:
                if node.value is not None:
                    found[key] = node
            elif not key.startswith("x-"):
                raise self._unknown(key, known)
        return found

    def members_of(self, known: Iterable[str]) -> set[str]:
        """The elements of a list of keys, all of which are known."""
        found = {element.text() for element in self.elements()}
        for key in found:
            if key not in known:
                raise self._unknown(key, known)
        return found

    def _unknown(self, key: str, known: Iterable[str]) -> Invalid:
        from difflib import get_close_matches  # on the way to an error only: it costs 5 ms

        near = get_close_matches(key, list(known), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known)[:40])}"
        return Invalid(f"{self.place or 'the document'}: unknown key {key!r}{hint}")
