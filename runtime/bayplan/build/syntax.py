"""A Dockerfile as statements: lines joined, comments left out, flags and here-documents apart from the rest.

    file = syntax.parse(data)
    for statement in file.statements:
        instruction = reading.read(statement, escape=file.escape)

Sources: Dockerfile reference ("Format", "Parser directives", "Here-Documents"), and where that is silent, BuildKit's parser. A Dockerfile
is hostile: its size, its lines and its statements are bounded.
"""

from __future__ import annotations

import re

from bayplan.build import words
from bayplan.build.instructions import Place
from bayplan.build.lexer import SPACE
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_LIMIT = 2 << 20
LINE_LIMIT = (64 << 10) - 1  # as BuildKit's
STATEMENTS_LIMIT = 5000
INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_WITH_HERE_DOCUMENTS = ("ADD", "COPY", "RUN")
_DIRECTIVES = ("syntax", "escape", "check")
_DIRECTIVE = re.compile(r"(?a)#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_LEADING = "".join(SPACE)


class Here(NamedTuple):
    """A here-document as it stands in the file: `content` with all its lines' ends, and with the tabs that `strips` will take away."""

    name: str
    content: str
    expands: bool
    strips: bool = False
    descriptor: int = 0


class Statement(NamedTuple):
    """One instruction: its name in upper case (and as it is `written`), its flags with their dashes and without quotes, the rest of its
    joined lines, and its here-documents. `empty_lines`: blank lines stand where the next line was expected."""

    name: str
    flags: tuple[str, ...]
    rest: str
    place: Place
    here: tuple[Here, ...] = ()
    written: str = ""
    comments: tuple[str, ...] = ()
    empty_lines: bool = False


class Directive(NamedTuple):
    name: str
    value: str
    line: int


class File(NamedTuple):
    """A Dockerfile; `name` is what messages call it."""

    name: str
    escape: str
    directives: tuple[Directive, ...]
    statements: tuple[Statement, ...]

    def directive(self, name: str) -> Directive | None:
        """The parser directive `syntax`, `escape` or `check`."""
        return next((one for one in self.directives if one.name == name), None)


def parse(data: bytes, name: str = "Dockerfile") -> File:
    """Read a Dockerfile. Raises Invalid, which begins with `name` and the number of the line."""
    if len(data) > SIZE_LIMIT:
        raise Invalid(f"{name}: a Dockerfile has at most {SIZE_LIMIT} bytes, and this one has {len(data)}")
    lines = _Lines(name, data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))
    directives = tuple(_directives(lines))
    escape = next((one.value for one in directives if one.name == "escape"), "\\")
    statements = tuple(_statements(lines, escape))
    if not statements:
        raise Invalid(f"{name}:{max(len(lines.all), 1)}: the file has no instructions; the first is FROM")
    return File(name, escape, directives, statements)


class _Lines:
    """The file's lines with their ends; `at` is the index of the next one."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.all = [line for line in re.split("(?<=\n)", text) if line]
        self.at = 0

    def place(self, first: int, last: int) -> Place:
        """The lines from index `first` to before `last`."""
        return Place(first + 1, last, "".join(self.all[first:last]).rstrip("\r\n"), self.name)

    def next(self) -> str:
        """The next line, with its end; raises Invalid for one that is too long."""
        line = self.all[self.at]
        self.at += 1
        if len(line) > LINE_LIMIT:
            raise self.place(self.at - 1, self.at).wrong(f"a line has at most {LINE_LIMIT} characters, and this one has {len(line)}")
        return line

    @property
    def left(self) -> bool:
        return self.at < len(self.all)


def _directives(lines: _Lines) -> Iterator[Directive]:
    """The parser directives at the top: each is a comment, and the first line that is none of them ends them."""
    seen: set[str] = set()
    for number, line in enumerate(lines.all, 1):
        match = _DIRECTIVE.fullmatch(line.lstrip(_LEADING).rstrip("\r\n"))
        name = match[1].lower() if match else ""
        if not match or name not in _DIRECTIVES:
            return
        place = lines.place(number - 1, number)
        if name in seen:
            raise place.wrong(f"only one {name} parser directive can be used")
        if name == "escape" and match[2] not in ("\\", "`"):
            raise place.wrong(f"the escape character is \\ or `, not {match[2]!r}")
        seen.add(name)
        yield Directive(name, match[2], number)


def _statements(lines: _Lines, escape: str) -> Iterator[Statement]:
    comments: list[str] = []
    count = 0
    while lines.left:
        begin = lines.at
        line = lines.next().rstrip("\r\n").lstrip(_LEADING)
        if line.startswith("#"):
            comments.append(words.strip(line[1:]))
            continue
        text, more = _continued(line, escape)
        if not text and not more:
            comments = []
            continue
        rest, empty = _joined(lines, escape) if more else ("", False)
        count += 1
        if count > STATEMENTS_LIMIT:
            raise lines.place(begin, lines.at).wrong(f"a Dockerfile has at most {STATEMENTS_LIMIT} instructions")
        yield _statement(lines, begin, text + rest)._replace(comments=tuple(comments), empty_lines=empty)
        comments = []


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """The line without the escape character at its end, and whether there was one; two of them escape each other."""
    bare = line.rstrip(" \t")
    if bare.endswith(escape) and not bare.endswith(escape * 2):
        return bare[:-1], True
    return line, False


def _joined(lines: _Lines, escape: str) -> tuple[str, bool]:
    """What follows a line that is continued, and whether blank lines stand in it; comments are left out."""
    parts: list[str] = []
    empty, more = False, True
    while more and lines.left:
        line = lines.next().rstrip("\r\n")
        start = line.lstrip(_LEADING)
        if start.startswith("#"):
            continue
        if not start:
            empty = True
            continue
        part, more = _continued(line, escape)
        parts.append(part)
    return "".join(parts), empty


def _statement(lines: _Lines, begin: int, text: str) -> Statement:
    one = words.strip(text)
    place = lines.place(begin, lines.at)._replace(one=one)
    if not text.isprintable() and any("\ud800" <= character <= "\udfff" or character == "\0" for character in text):
        raise place.wrong("the instruction is not text in UTF-8, or holds a null character")
    written, after = words.first(text)
    name = written.upper()
    if name not in INSTRUCTIONS:
        raise place.wrong(f"unknown instruction {written}{_near(name)}")
    found, rest = words.flags(after)
    here = tuple(_here_documents(lines, place, name, rest))
    return Statement(name, found, rest, lines.place(begin, lines.at)._replace(one=one), here, written)


def _near(name: str) -> str:
    from difflib import get_close_matches  # on the way to an error only: it costs 5 ms

    near = get_close_matches(name[:40], INSTRUCTIONS, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(INSTRUCTIONS)}"


def _here_documents(lines: _Lines, place: Place, name: str, rest: str) -> Iterator[Here]:
    """The here-documents that the instruction, or the one that ONBUILD keeps, names: they follow it, one after the other."""
    if "<<" not in rest:
        return
    if name == "ONBUILD":
        name, after = words.first(rest)
        rest = words.flags(after)[1]
    if name.upper() not in _WITH_HERE_DOCUMENTS:
        return
    try:
        found = [] if words.json_list(rest) is not None else words.markers(rest)
    except Invalid as error:
        raise place.wrong(str(error)) from None
    for marker in found:
        yield Here(marker.name, _content(lines, place, marker), marker.expands, marker.strips, marker.descriptor)


def _content(lines: _Lines, place: Place, marker: words.Marker) -> str:
    begin = lines.at
    while lines.left:
        line = lines.next()
        bare = line.rstrip("\r\n")
        if (bare.lstrip("\t") if marker.strips else bare) == marker.name:
            content = "".join(lines.all[begin : lines.at - 1])
            if any("\ud800" <= character <= "\udfff" for character in content):
                raise place.wrong(f"the here-document {marker.name} is not text in UTF-8")
            return content
    raise place.wrong(f"the here-document {marker.name} is not closed: a line with nothing but {marker.name} is missing")
