"""JSON by the interpreter's own C functions, without the package json.

It brings re and enum along: 9 ms of a start that takes 30. An interpreter without the C module takes the package.
"""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"


class _Reading:
    """What the scanner looks up in its context: JSON as Python's json reads it, but for what is given."""

    strict = True
    object_hook = None
    parse_float = float

    def __init__(self, pairs: Callable[[list[tuple[str, Any]]], Any] | None, integer: Callable[[str], Any], constant: Callable[[str], Any]):
        self.object_pairs_hook = pairs
        self.parse_int = integer
        self.parse_constant = constant
        self.memo: dict[str, str] = {}


def loads(
    text: str | bytes,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    integer: Callable[[str], Any] = int,
    constant: Callable[[str], Any] = float,
) -> Any:
    """Read one JSON value, bytes as UTF-8. `pairs` makes an object of its members, `integer` a number of its digits, `constant` a value of
    NaN, Infinity or -Infinity. Raises ValueError (from the three as well), and RecursionError for what is nested too deeply."""
    try:
        from _json import make_scanner as scanner
    except ImportError:
        import json

        return json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_constant=constant)
    text = (text if isinstance(text, str) else text.decode()).strip(_SPACE)
    try:
        value, end = scanner(_Reading(pairs, integer, constant))(text, 0)  # type: ignore[arg-type]  # any object with these names
    except StopIteration as place:
        raise ValueError(f"no JSON value at character {place.value}") from None
    except SystemError:  # where the package is not loaded, the scanner finds no class for its error and raises none (Python 3.9 to 3.12)
        raise ValueError("malformed JSON") from None
    if end != len(text):
        raise ValueError(f"more than one JSON value: the first ends at character {end}")
    return value


def dumps(value: object) -> str:
    """The value in ASCII, as json.dumps spells it. Raises TypeError and ValueError for what JSON has no words for."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value)
    return "".join(make_encoder({}, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"JSON has no {type(value).__name__}")
