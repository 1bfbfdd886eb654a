"""What .dockerignore leaves out of a build's context, and --exclude out of a copy.

    patterns = ignore.parse(data)
    patterns.excludes("src/a.pyc")
    patterns.skips("node_modules")            # it is left out, and nothing below it comes back in

    top = patterns.matches("src")             # the same by and by, for who walks a tree:
    patterns.matches("src/a.pyc", top).excluded

Source: Dockerfile reference, ".dockerignore file"; moby/patternmatcher for what a pattern matches. A path matches where one of its parents
does, and the last pattern that matches decides. Patterns are hostile: one with few stars is a regular expression, which no path makes slow;
one with many is followed along the path by the set of places in the pattern that may be reached, in time that grows with the product of
both lengths only.
"""

from __future__ import annotations

import re

from bayplan.build.lexer import SPACE
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIZE_LIMIT = 1 << 20
PATTERNS_LIMIT = 2000
PATTERN_LIMIT = 4096
_FEW = 2  # stars that a regular expression may have: it tries as many places as the path has characters, for each of them
_SPACES = "".join(SPACE)

STAR, DEEP, ALL, ONE, CLASS, TEXT = "*", "**/", "**", "?", "[]", ""


class Token(NamedTuple):
    """Part of a pattern: a star (none but /), `**/` (any directories), `**` at the end (anything), one character but /, one of a class, or
    one character that is itself."""

    kind: str
    character: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = False

    def takes(self, character: str) -> bool:
        if self.kind == TEXT:
            return character == self.character
        if self.kind == CLASS:
            return any(low <= character <= high for low, high in self.ranges) != self.negated
        return character != "/"


class Pattern(NamedTuple):
    """`text` is clean and without the `!` that makes it one to `keep`; `matches` says whether a whole path is what it means."""

    text: str
    keep: bool
    matches: Callable[[str], bool]
    prefix: str  # its text before the first special character
    fixed: bool  # there is no special character

    def may_match_below(self, directory: str) -> bool:
        """Whether a path below `directory` may match, when the directory itself does not."""
        below = directory + "/"
        return self.prefix.startswith(below) or (not self.fixed and below.startswith(self.prefix))


class Matches(NamedTuple):
    """Whether a path is left out, and which patterns it or a parent of it matches."""

    excluded: bool
    by: tuple[bool, ...]


class Patterns(NamedTuple):
    """The patterns in their order; without any, nothing is excluded."""

    patterns: tuple[Pattern, ...] = ()

    def matches(self, path: str, parent: Matches | None = None) -> Matches:
        """What becomes of `path`, relative to the context, with slashes. `parent` is the answer for its directory; without it, all the
        directories above are looked at."""
        path = path.strip("/")
        if parent is None:
            parent = Matches(excluded=False, by=(False,) * len(self.patterns))
            for index, character in enumerate(path):
                if character == "/":
                    parent = self.matches(path[:index], parent)
        by = tuple(above or pattern.matches(path) for above, pattern in zip(parent.by, self.patterns))
        last = next((pattern for pattern, found in zip(reversed(self.patterns), reversed(by)) if found), None)
        return Matches(excluded=last is not None and not last.keep and path not in ("", "."), by=by)

    def excludes(self, path: str) -> bool:
        """Whether the path is left out."""
        return bool(self.patterns) and self.matches(path).excluded

    def skips(self, directory: str, matches: Matches | None = None) -> bool:
        """Whether the directory is left out with everything below it, so that nobody needs to look into it."""
        matches = matches or self.matches(directory)
        directory = directory.strip("/")
        return matches.excluded and not any(one.keep and one.may_match_below(directory) for one in self.patterns)


def parse(data: bytes, name: str = ".dockerignore") -> Patterns:
    """Read an ignore file: a pattern a line, comments begin with #. Raises Invalid with `name` and the line's number."""
    if len(data) > SIZE_LIMIT:
        raise Invalid(f"{name}: it has {len(data)} bytes, and {SIZE_LIMIT} are allowed")
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.startswith("#") and line.strip(_SPACES):
            found.append((f"{name}:{number}", line))
    return _patterns(found)


def parse_patterns(texts: Iterable[str], name: str) -> Patterns:
    """Read patterns one by one, as --exclude gives them. Raises Invalid, which begins with `name`."""
    return _patterns([(name, text) for text in texts if text.strip(_SPACES)])


def _patterns(lines: list[tuple[str, str]]) -> Patterns:
    if len(lines) > PATTERNS_LIMIT:
        raise Invalid(f"{lines[PATTERNS_LIMIT][0]}: at most {PATTERNS_LIMIT} patterns are allowed")
    return Patterns(tuple(_pattern(place, text.strip(_SPACES)) for place, text in lines))


def _pattern(place: str, text: str) -> Pattern:
    if len(text) > PATTERN_LIMIT:
        raise Invalid(f"{place}: a pattern has at most {PATTERN_LIMIT} characters, and this one has {len(text)}")
    keep = text.startswith("!")
    clean = _clean(text[keep:].strip(_SPACES)) if text[keep:].strip(_SPACES) else ""
    if not clean:
        raise Invalid(f"{place}: a ! needs a pattern after it")
    try:
        tokens = _tokens(clean)
    except Invalid as error:
        raise Invalid(f"{place}: the pattern {text!r} {error}") from None
    special = next((index for index, token in enumerate(tokens) if token.kind != TEXT), len(tokens))
    prefix = "".join(token.character for token in tokens[:special])
    return Pattern(clean, keep, _matcher(clean, tokens), prefix, special == len(tokens))


def _clean(text: str) -> str:
    """The path without empty components, `.`, and `..` after another; "/" is where it begins, and so is dropped."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and text.startswith("/")):
            parts.append(part)
    return "/".join(parts) or "."


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "*" and text.startswith("*", at):
            at += 1 + text.startswith("/", at + 1)
            tokens.append(Token(DEEP if at < len(text) else ALL))
        elif character == "*":
            tokens.append(Token(STAR))
        elif character == "?":
            tokens.append(Token(ONE))
        elif character == "[":
            token, at = _class(text, at)
            tokens.append(token)
        else:
            character, at = _character(text, at - 1, "\\")
            tokens.append(Token(TEXT, character))
    return tokens


def _character(text: str, at: int, escape: str) -> tuple[str, int]:
    """The character at `at`, or the one that is escaped there, and what comes after."""
    if text.startswith(escape, at):
        at += 1
    if at >= len(text):
        raise Invalid("ends where a character is missing")
    return text[at], at + 1


def _class(text: str, at: int) -> tuple[Token, int]:
    """`[a-z]`, `[^a-z]`: from after its [ to after its ]."""
    negated = text.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and text.startswith("]", at)):
        low, at = _member(text, at)
        high = low
        if text.startswith("-", at):
            high, at = _member(text, at + 1)
        if low > high:
            raise Invalid(f"has a class that goes from {low!r} down to {high!r}")
        ranges.append((low, high))
    return Token(CLASS, "", tuple(ranges), negated), at + 1


def _member(text: str, at: int) -> tuple[str, int]:
    if at >= len(text):
        raise Invalid("has a [ without its ]")
    if text[at] in "-]":
        raise Invalid(f"has a class with {text[at]!r} where a character belongs; \\{text[at]} is that character")
    return _character(text, at, "\\")


def _matcher(text: str, tokens: list[Token]) -> Callable[[str], bool]:
    """The cheapest way to say what the pattern matches."""
    kinds = {token.kind for token in tokens}
    written = "".join(token.character for token in tokens if token.kind == TEXT)
    if kinds <= {TEXT}:
        return lambda path: path == written
    if tokens[0].kind in (DEEP, ALL) and {token.kind for token in tokens[1:]} <= {TEXT} and "\\" not in text:
        if text.startswith("**/"):
            return lambda path: path == written or path.endswith("/" + written)
        return lambda path: path.endswith(written)
    if tokens[-1].kind == ALL and {token.kind for token in tokens[:-1]} <= {TEXT}:
        return lambda path: path.startswith(written)
    if sum(token.kind in (STAR, DEEP, ALL) for token in tokens) <= _FEW:
        regular = re.compile(expression(tokens), re.DOTALL)
        return lambda path: regular.fullmatch(path) is not None
    steps: dict[str, tuple[int, int]] = {}
    return lambda path: follow(tokens, path, steps)


def expression(tokens: list[Token]) -> str:
    """The regular expression for the tokens."""
    parts = {STAR: "[^/]*", DEEP: "(?:.*/)?", ALL: ".*", ONE: "[^/]"}
    return "".join(
        _class_expression(token) if token.kind == CLASS else parts.get(token.kind, re.escape(token.character)) for token in tokens
    )


def _class_expression(token: Token) -> str:
    ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in token.ranges)
    return f"[{'^' if token.negated else ''}{ranges}]"


def follow(tokens: list[Token], path: str, steps: dict[str, tuple[int, int]]) -> bool:
    """Whether the tokens match the path. Places in the pattern are bits: bit i of `places` is before token i, bit i of `within` is inside
    what the token i, a `**/`, takes; all of them go on by one character at once. `steps` keeps what characters do."""
    free = sum(1 << index for index, token in enumerate(tokens) if token.kind in (STAR, DEEP, ALL))
    deep = sum(1 << index for index, token in enumerate(tokens) if token.kind == DEEP)
    places, within = _reached(1, free), 0
    for character in path:
        if character not in steps:
            steps[character] = _steps(tokens, character)
        taken, stays = steps[character]
        within |= places & deep
        places = (places & taken) << 1 | (places & stays) | (within << 1 if character == "/" else 0)
        places = _reached(places, free)
        if not places and not within:
            return False
    return bool(places >> len(tokens))


def _steps(tokens: list[Token], character: str) -> tuple[int, int]:
    """The tokens that take this character and are done with it, and those that take it and more."""
    taken = stays = 0
    for index, token in enumerate(tokens):
        if token.kind in (TEXT, ONE, CLASS):
            taken |= token.takes(character) << index
        elif token.kind == ALL or (token.kind == STAR and character != "/"):
            stays |= 1 << index
    return taken, stays


def _reached(places: int, free: int) -> int:
    """The places, and those that are reached from them without a character."""
    while True:
        more = places | (places & free) << 1
        if more == places:
            return places
        places = more
