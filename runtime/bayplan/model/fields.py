"""The members of a JSON object, read by name and type. What is wrong is Invalid, and names its place as a path.

Null counts as absent, as it does for every runtime that is written in Go; members that nobody reads are ignored. A text has
neither a null character nor half a surrogate pair: the kernel would cut it there, or there would be no bytes for it.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model import jsontext
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypeGuard

UINT16, UINT32, UINT64 = range(1 << 16), range(1 << 32), range(1 << 64)
INT32, INT64 = range(-(1 << 31), 1 << 31), range(-(1 << 63), 1 << 63)
_SHOWN = 60  # characters of a wrong value, or of a name, in an error


class Fields:
    """One object at `path` (empty for the whole document); `reading` begins every error, as in "reading config.json"."""

    __slots__ = ("_members", "_path", "_reading")

    def __init__(self, value: object, *, reading: str, path: str = "") -> None:
        if not isinstance(value, dict):
            raise Invalid(f"{reading}: {path and f'{path}: '}an object was expected, not {shown(value)}")
        self._members, self._path, self._reading = value, path, reading

    def wrong(self, name: str, what: str) -> Invalid:
        """The error that says `what` of the member `name`; `name` may have an index, as in "env[3]"."""
        return Invalid(f"{self._reading}: {self._at(name)}: {what}")

    def need(self, *names: str) -> None:
        """Invalid for the first of `names` that is absent or an empty text."""
        for name in names:
            value = self._members.get(name)
            if value is None or value == "":
                raise self.wrong(name, "it is missing" if value is None else "it is empty")

    def has(self, name: str) -> bool:
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        """A string; empty where it is absent."""
        value = self._members.get(name)
        if value is None:
            return ""
        return value if _is_text(value) else self._refuse_text(name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        return tuple(v if _is_text(v) else self._refuse_text(f"{name}[{i}]", v) for i, v in enumerate(values))

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """A string out of `allowed`; empty where it is absent or empty."""
        value = self.text(name)
        if value and value not in allowed:
            raise self._not_among(name, value, allowed)
        return value

    def choices(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        values = self.texts(name)
        for index, value in enumerate(values):
            if value not in allowed:
                raise self._not_among(f"{name}[{index}]", value, allowed)
        return values

    def flag(self, name: str) -> bool:
        """true or false; False where it is absent."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, f"true or false was expected, not {shown(value)}")
        return bool(value)

    def number(self, name: str, within: range) -> int | None:
        """A whole number of the range `within`; None where it is absent."""
        value = self._members.get(name)
        return None if value is None else self._whole(name, value, within)

    def whole(self, name: str, within: range, *, default: int = 0) -> int:
        value = self.number(name, within)
        return default if value is None else value

    def numbers(self, name: str, within: range) -> tuple[int, ...]:
        return tuple(self._whole(f"{name}[{index}]", value, within) for index, value in enumerate(self._list(name)))

    def inside(self, name: str) -> Fields:
        """An object; one without members where it is absent."""
        value = self._members.get(name)
        return Fields({} if value is None else value, reading=self._reading, path=self._at(name))

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        values = self._list(name)
        return [Fields(value, reading=self._reading, path=self._at(f"{name}[{i}]")) for i, value in enumerate(values)]

    def entries(self, name: str) -> list[tuple[str, Fields]]:
        """An object whose members are objects, under names that are the user's."""
        inner = self.inside(name)
        return [(inner._key(key), inner.inside(key)) for key in inner._members]

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """An object whose members are strings, under names that are the user's."""
        inner = self.inside(name)
        return tuple((inner._key(key), inner.text(key)) for key in inner._members)

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _list(self, name: str) -> list[object]:
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, f"a list was expected, not {shown(value)}")
        return value

    def _whole(self, name: str, value: object, within: range) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, f"a whole number was expected, not {shown(value)}")
        if value not in within:
            raise self.wrong(name, f"a number from {within.start} to {within.stop - 1} was expected, not {shown(value)}")
        return value

    def _key(self, key: str) -> str:
        if not key or not _is_text(key):
            raise self.wrong(shown(key), "it is no name")
        return key

    def _refuse_text(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.wrong(name, f"a string was expected, not {shown(value)}")
        what = "a null character" if "\0" in value else "a character that is none, half of a surrogate pair"
        raise self.wrong(name, f"{shown(value)} contains {what}")

    def _not_among(self, name: str, value: str, allowed: Collection[str]) -> Invalid:
        return self.wrong(name, f"{shown(value)} is none of {', '.join(sorted(allowed))}")


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and "\0" not in value and (value.isascii() or _is_encodable(value))


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """A JSON value in an error: as it was written, if that is short."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a number of that size"  # its digits may be more than the interpreter writes out
    text = jsontext.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
