"""Patterns inside ${...}: `*` is any text, `?` any character, an escaped one itself; what they trim from a value or replace in it.

A pattern falls into segments at its stars. A segment has a fixed length, so that where one matches is found by looking once along the
value: a pattern full of stars takes no more time than one without, whatever the value is.
"""

from __future__ import annotations

import re

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Segment: TypeAlias = tuple[str, ...]  # characters; "" is any one


def trimmed(value: str, pattern: str, *, end: bool, longest: bool) -> str:
    """`value` without the longest or shortest beginning (`end`: end) that matches. Raises Invalid for an escape without a meaning."""
    segments = _segments(pattern)
    if end:
        turned = [segment[::-1] for segment in segments[::-1]]
        found = _match(turned, value[::-1], 0, greedy=longest, anchored=True)
        return value[: len(value) - found[1]] if found else value
    found = _match(segments, value, 0, greedy=longest, anchored=True)
    return value[found[1] :] if found else value


def replaced(value: str, pattern: str, replacement: str, *, everywhere: bool, longest: int) -> str:
    """`value` with the first match, or with all of them, replaced; matches are as long as they can be. The result has at most `longest`
    characters, or it is Invalid."""
    segments = _segments(pattern)
    parts: list[str] = []
    done, at, size, ended = 0, 0, len(value), -1
    while at <= len(value):
        found = _match(segments, value, at, greedy=True, anchored=False)
        if found is None:
            break
        begin, end = found
        if end > begin or begin != ended:  # an empty match right after another one is none
            parts += [value[done:begin], replacement]
            size += len(replacement)
            done = ended = end
        if size > longest:
            raise Invalid(f"replacing in a variable makes it longer than {longest} characters")
        if not everywhere:
            break
        at = end if end > begin else end + 1
    return "".join([*parts, value[done:]])


def _segments(pattern: str) -> list[Segment]:
    segments: list[list[str]] = [[]]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
            character = pattern[at : at + 1]
            if character not in ("*", "?", "\\", "}", "/"):
                raise Invalid(f"the pattern {pattern!r} escapes {character or 'nothing'!r}; * ? \\ / and }} can be escaped")
            segments[-1].append(character)
        elif character == "*":
            segments.append([])
        else:
            segments[-1].append("" if character == "?" else character)
        at += 1
    return [tuple(segment) for segment in segments]


def _match(segments: Sequence[Segment], text: str, start: int, *, greedy: bool, anchored: bool) -> tuple[int, int] | None:
    """Begin and end of the first match from `start` on; with `anchored` it begins there."""
    first, *rest = segments
    begin = (start if _at(first, text, start) else -1) if anchored else _first(first, text, start)
    if begin < 0:
        return None
    after = begin + len(first)
    end = (_latest if greedy else _earliest)(rest, text, after)
    return None if end < 0 else (begin, end)


def _earliest(segments: Sequence[Segment], text: str, at: int) -> int:
    """Where the segments end if each is as early as it can be, or -1."""
    for segment in segments:
        found = _first(segment, text, at)
        if found < 0:
            return -1
        at = found + len(segment)
    return at


def _latest(segments: Sequence[Segment], text: str, at: int) -> int:
    """Where the segments end if each is as late as it can be, or -1."""
    limit = len(text)
    for index, segment in enumerate(reversed(segments)):
        found = _last(segment, text, at, limit)
        if found < 0:
            return -1
        if index == 0:
            end = found + len(segment)
        limit = found
    return end if segments else at


def _at(segment: Segment, text: str, at: int) -> bool:
    return at + len(segment) <= len(text) and all(character in ("", text[at + index]) for index, character in enumerate(segment))


def _first(segment: Segment, text: str, start: int) -> int:
    if "" not in segment:
        return text.find("".join(segment), start)
    found = re.compile(_expression(segment), re.DOTALL).search(text, start)
    return found.start() if found else -1


def _last(segment: Segment, text: str, start: int, limit: int) -> int:
    """The last place of the segment between `start` and `limit`, or -1."""
    if "" not in segment:
        return text.rfind("".join(segment), start, limit)
    turned = re.compile(_expression(segment[::-1]), re.DOTALL).search(text[start:limit][::-1])
    return limit - turned.end() if turned else -1


def _expression(segment: Segment) -> str:
    return "".join("." if character == "" else re.escape(character) for character in segment)
