"""Regular expressions, with `re` imported when the first one is used: it takes 6 ms of a start,
and most commands use none.
"""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    import re


def fullmatch(pattern: str, text: str) -> re.Match[str] | None:
    """As re.fullmatch."""
    import re

    return re.fullmatch(pattern, text)


def findall(pattern: str, text: str) -> list[tuple[str, ...]]:
    """As re.findall, for a pattern with several groups."""
    import re

    return re.findall(pattern, text)


def without(pattern: str, text: str) -> str:
    """`text` without what the pattern finds in it."""
    import re

    return re.sub(pattern, "", text)
