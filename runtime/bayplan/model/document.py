"""JSON documents from outside, read with bounds: size, depth, numbers, counts, duplicate keys, NUL bytes."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model import jsontext
from bayplan.model.container import Pairs
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, NoReturn

_STRING_LIMIT = 1 << 20
_COUNT_LIMIT = 10_000


class Fields(NamedTuple):
    """One JSON object, `what` it belongs to, typed access to its members. An absent member and null are the same."""

    what: str
    values: Mapping[str, Any]

    def wrong(self, key: str, expected: str) -> NoReturn:
        raise Invalid(f"reading {self.what}: {key} is not {expected}")

    def string(self, key: str) -> str:
        value = self.values.get(key)
        return "" if value is None else self._text(key, value)

    def integer(self, key: str, *, default: int = 0) -> int:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(key, "a whole number")
        return value

    def positive(self, key: str) -> int:
        """A count or a duration in nanoseconds, from 0 to what 63 bits hold."""
        value = self.integer(key)
        if not 0 <= value < 1 << 63:
            self.wrong(key, "a number from 0 to 2^63-1")
        return value

    def strings(self, key: str, *, limit: int = _COUNT_LIMIT) -> tuple[str, ...] | None:
        value = self.values.get(key)
        return None if value is None else tuple(self._text(key, each) for each in self._list(key, value, limit))

    def member(self, key: str) -> Fields:
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.wrong(key, "an object")
        return Fields(self.what, value or {})

    def objects(self, key: str, *, limit: int) -> Iterator[Fields]:
        for each in self._list(key, self.values.get(key) or [], limit):
            if not isinstance(each, dict):
                self.wrong(key, "a list of objects")
            yield Fields(self.what, each)

    def keys(self, key: str, *, limit: int = _COUNT_LIMIT) -> tuple[str, ...]:
        """The members' names of an object that is used as a set, sorted."""
        found = self.member(key).values
        if len(found) > limit:
            self.wrong(key, f"an object of at most {limit} members")
        return tuple(sorted(self._text(key, each) for each in found))

    def pairs(self, key: str) -> Pairs:
        """An object of strings as sorted pairs."""
        return tuple(
            sorted((self._text(key, name), self._text(key, text)) for name, text in self.member(key).values.items())
        )

    def _list(self, key: str, value: object, limit: int) -> list[Any]:
        if not isinstance(value, list):
            self.wrong(key, "a list")
        if len(value) > limit:
            self.wrong(key, f"a list of at most {limit}")
        return value

    def _text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or "\0" in value or len(value) > _STRING_LIMIT:
            self.wrong(key, f"text without NUL bytes, of at most {_STRING_LIMIT} characters")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.wrong(key, "text (it holds half of a surrogate pair)")
        return value


def load_object(data: bytes, limit: int, what: str) -> Fields:
    """Read a JSON object of at most `limit` bytes; raises Invalid, which names the document as `what`."""
    value = load_json(data, limit, what)
    if not isinstance(value, dict):
        raise Invalid(f"reading {what}: it is not a JSON object")
    return Fields(what, value)


def load_json(data: bytes, limit: int, what: str) -> Any:
    """Read JSON strictly: UTF-8, no duplicate member, no NaN, no number of over twenty digits; raises Invalid."""
    if len(data) > limit:
        raise Invalid(f"reading {what}: it has {len(data)} bytes, over the limit of {limit}")
    try:
        text = data.decode("utf-8")
        return jsontext.loads(text, pairs=_unique, integer=_bounded_int, constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"reading {what}: it is not valid JSON ({str(error)[:200]})") from error


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers may take different ones of two members with one name, so such a document is ambiguous."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("an object names a member twice")
    return found


def _bounded_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("a number has over twenty digits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
