"""How the rest of an instruction falls into words: flags, JSON lists, words by space, words with quotes, and here-documents' names.

Nothing is expanded here, and but for flags nothing is unquoted.
"""

from __future__ import annotations

import re

from bayplan.build import lexer
from bayplan.build.lexer import SPACE
from bayplan.errors import Invalid
from bayplan.model import jsontext
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

BLANK = "\t\v\f\r "  # what separates words where no quotes count
_BLANKS = re.compile(f"[{BLANK}]+")
_HERE = re.compile(r"(?a)(\d{0,9})<<(-?)\s*([^<\s][^<]*)")
_OPEN = re.compile(r"(?a)\d{0,9}<<-?")


class Marker(NamedTuple):
    """`3<<-"EOF"`: what a here-document is called and how it is read. `strips`: leading tabs are no part of it."""

    name: str
    expands: bool
    strips: bool
    descriptor: int


def first(text: str) -> tuple[str, str]:
    """The first word and the rest."""
    word, *rest = _BLANKS.split(strip(text), maxsplit=1)
    return word, rest[0] if rest else ""


def strip(text: str) -> str:
    return text.strip("".join(SPACE))


def blank(text: str) -> list[str]:
    """Words by space, whatever quotes they hold."""
    return [word for word in _BLANKS.split(text) if word]


def flags(text: str) -> tuple[tuple[str, ...], str]:
    """The leading words that begin with `--`, without their quotes and escapes, and the rest. A lone `--` ends them."""
    found: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in SPACE:
            at += 1
        if not text.startswith("--", at):
            return tuple(found), strip(text[at:])
        word, at = _flag(text, at)
        if word == "--":
            return tuple(found), strip(text[at:])
        found.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    """One word and where it ends; `\\` escapes in it, whatever the file's escape character is."""
    parts: list[str] = []
    quote = ""
    while at < len(text) and (quote or text[at] not in SPACE):
        character = text[at]
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif character == "\\":
            at += 1
            parts.append(text[at : at + 1])
        else:
            parts.append(character)
        at += 1
    return "".join(parts), at


def quoted(text: str, escape: str) -> list[str]:
    """Words by space outside quotes; quotes and escapes stay in them."""
    found: list[str] = []
    word: list[str] = []
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        at += 1
        if not quote and character in SPACE:
            found += ["".join(word)] if word else []
            word = []
        elif character == escape and quote != "'":
            word += [character, text[at]] if at < len(text) else []
            at += 1
        else:
            quote = "" if character == quote else character if not quote and character in "'\"" else quote
            word.append(character)
    return found + (["".join(word)] if word else [])


def json_list(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON list, or None where the text is something else. Raises Invalid for a list of anything but strings."""
    text = text.lstrip("".join(SPACE))
    if not text.startswith("["):
        return None
    try:
        value: Any = jsontext.loads(text, constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in value):
        raise Invalid("a JSON list holds strings only")
    if any("\0" in word for word in value):
        raise Invalid("a null character cannot be passed to the kernel")
    return tuple(word.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for word in value)


def _no_constant(name: str) -> float:
    """NaN and the like, which JSON has not."""
    raise ValueError(name)


def marker(word: str) -> Marker | None:
    """What `<<EOF` says, or None where the word is no such thing."""
    match = _HERE.fullmatch(word)
    if not match:
        return None
    try:
        plain = lexer.process(match[3], {}, lexer.Rules(keep_unset=True)).words
        raw = lexer.process(match[3], {}, lexer.Rules(raw_quotes=True, keep_unset=True)).text
    except Invalid:
        return None
    if len(plain) != 1:
        return None
    return Marker(plain[0], _quotes(plain[0]) == _quotes(raw), bool(match[2]), int(match[1] or 0))


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')


def markers(text: str) -> list[Marker]:
    """The here-documents that an instruction names, in order. A line that the shell would not read either names none."""
    if "<<" not in text:
        return []
    try:
        found = lexer.process(text, {}, lexer.Rules(raw_quotes=True, raw_escapes=True, keep_unset=True)).words
    except Invalid:
        return []
    return [here for here in map(marker, joined(found)) if here]


def joined(found: Iterable[str]) -> list[str]:
    """The words, with `<<` and a name after a space as one."""
    together: list[str] = []
    for word in found:
        if together and _OPEN.fullmatch(together[-1]):
            together[-1] += word
        else:
            together.append(word)
    return together


def stripped(content: str) -> str:
    """A here-document without the tabs at the beginning of its lines, as `<<-` asks."""
    return re.sub("(?m)^\t+", "", content)
