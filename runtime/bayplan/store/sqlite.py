"""SQLite, at the least cost: `_sqlite3`, which the package sqlite3 wraps for dates (3 ms), and that without what it imports itself.

It takes `lru_cache` from functools, and nothing else, to keep its prepared statements. functools brings collections, keyword,
operator, reprlib and types along, 1.7 ms of the 40 that a container takes to run; the wrapper itself is in C.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


def load() -> ModuleType:
    """The module _sqlite3."""
    if "functools" in sys.modules:
        return __import__("_sqlite3")
    stand_in = type(sys)("functools")
    stand_in.lru_cache = _lru_cache  # type: ignore[attr-defined]
    sys.modules["functools"] = stand_in
    try:
        return __import__("_sqlite3")
    finally:
        del sys.modules["functools"]


def _lru_cache(maxsize: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]

    return lambda function: _lru_cache_wrapper(function, maxsize, False, tuple)
