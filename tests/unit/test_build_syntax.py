"""How a Dockerfile falls into statements: lines, comments, directives, flags, here-documents."""

from __future__ import annotations

import pytest

from bayplan.build import syntax
from bayplan.build.syntax import Here
from bayplan.errors import Invalid


def statements(text: str) -> list[tuple[str, tuple[str, ...], str]]:
    return [(one.name, one.flags, one.rest) for one in syntax.parse(text.encode()).statements]


def rests(text: str) -> list[str]:
    return [one.rest for one in syntax.parse(text.encode()).statements]


def test_a_file_is_statements_with_their_places() -> None:
    file = syntax.parse(b"\xef\xbb\xbf# syntax=docker/dockerfile:1\r\n\r\nfrom  a AS b\r\n\r\nRUN x \\\r\n  y\r\n", "f/Dockerfile")
    assert [(one.name, one.written, one.rest) for one in file.statements] == [("FROM", "from", "a AS b"), ("RUN", "RUN", "x   y")], (
        "CRLF, too"
    )
    assert [(one.place.line, one.place.last) for one in file.statements] == [(3, 3), (5, 6)], "lines count from 1"
    assert file.statements[1].place.one == "RUN x   y", "for a history"
    assert file.statements[1].place.text == "RUN x \\\r\n  y" and file.statements[1].place.file == "f/Dockerfile", "as it is written"
    assert file.escape == "\\" and file.directives[0].value == "docker/dockerfile:1", "the byte order mark is no part of it"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# escape=`\n# check=skip=all\nFROM a", ["escape", "check"]), ("#ESCAPE = ` \nFROM a", ["escape"]), ("\n# escape=`\nFROM a", []),
        ("# a comment\n# escape=`\nFROM a", []), ("# unknown=x\n# escape=`\nFROM a", []), ("FROM a\n# escape=`", []),
        ("  # syntax=x\nFROM a", ["syntax"]), ("# syntax=\nFROM a", []), ("#!/usr/bin/x\n# escape=`\nFROM a", []),
    ],
)  # fmt: skip
def test_directives_stand_at_the_top_only(text: str, names: list[str]) -> None:
    assert [one.name for one in syntax.parse(text.encode()).directives] == names, "the first other line ends them"


@pytest.mark.parametrize(
    ("text", "line"), [("# escape=\\\n# escape=`\nFROM a", 2), ("# escape=x\nFROM a", 1), ("#syntax=a\n#Syntax=b\nFROM a", 2)]
)
def test_a_directive_is_given_once_and_makes_sense(text: str, line: int) -> None:
    with pytest.raises(Invalid, match=rf"^Dockerfile:{line}: "):
        syntax.parse(text.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a \\\n# no\n  # no\n b", "a  b"), ("RUN a \\\n\n\n b", "a  b"), ("RUN a\\\nb\\\nc", "abc"), ("RUN a \\ \t\nb", "a b"),
        ("RUN a \\\\\nRUN b", "a \\\\"), ("RUN a \\", "a"), ("RUN a # b", "a # b"), ("  \tRUN a", "a"), ("RUN\ta", "a"),
        ("RUN a\\\\\\\nRUN b", "a\\\\\\"),
        ("# escape=`\nRUN a\\\nRUN b`\nc", "a\\"), ("RUN a \\\n  \\\n b", "a    b"), ("RUN a\\ b", "a\\ b"), ("\\\nRUN a", "a"),
    ],
)  # fmt: skip
def test_lines_are_joined(text: str, expected: str) -> None:
    assert rests(text)[0] == expected, "comments and blank lines in between are left out"


def test_blank_lines_within_an_instruction_are_told() -> None:
    file = syntax.parse(b"RUN a \\\n\n b\nRUN a \\\n# c\n b\n")
    assert [one.empty_lines for one in file.statements] == [True, False], "a comment is no blank line"


def test_comments_belong_to_what_follows_them() -> None:
    file = syntax.parse(b"# lost\n\n# a does\n# more\nARG a\nARG b\n")
    assert [one.comments for one in file.statements] == [("a does", "more"), ()], "a blank line ends them"


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("COPY --link --chown=a:b x y", ("--link", "--chown=a:b"), "x y"), ("COPY x --link y", (), "x --link y"),
        ("COPY -- --x y", (), "--x y"),
        ('RUN --mount=type=bind,source="a b" x', ("--mount=type=bind,source=a b",), "x"), ("RUN --mount=a\\ b x", ("--mount=a b",), "x"),
        ("RUN --x='a \"b' y", ('--x=a "b',), "y"), ("RUN --a", ("--a",), ""), ("CMD -x", (), "-x"), ("RUN --a=\\", ("--a=",), ""),
        ("ONBUILD RUN --a x", (), "RUN --a x"),
    ],
)  # fmt: skip
def test_flags_come_before_the_first_word_that_is_none(text: str, flags: tuple[str, ...], rest: str) -> None:
    assert statements(text)[0][1:] == (flags, rest), "without their quotes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<EOF\na\n  b\nEOF", [Here("EOF", "a\n  b\n", expands=True)]), ("RUN <<EMPTY\nEMPTY\n", [Here("EMPTY", "", expands=True)]),
        ("RUN 3<<E cat\nE", [Here("E", "", expands=True, descriptor=3)]), ('RUN "<<E"', []), ("RUN a<<E", []), ("USER <<E", []),
        ("RUN <<-E\n\ta\n\tE\n", [Here("E", "\ta\n", expands=True, strips=True)]),
        ("RUN <<-'E'\n\ta\nE", [Here("E", "\ta\n", False, True)]),
        ("COPY <<A <<B /d\n1\nA\n2\nB\n", [Here("A", "1\n", expands=True), Here("B", "2\n", expands=True)]),
        ("COPY <<X <<Y /d\nY\nX\nX\nY", [Here("X", "Y\n", expands=True), Here("Y", "X\n", expands=True)]),
        ("RUN <<E\n# a comment \\\nb\nE", [Here("E", "# a comment \\\nb\n", expands=True)]),
        ("RUN <<eo'f'\na\neof", [Here("eof", "a\n", expands=False)]),
        ("RUN <<eo\\'f\na\neo'f", [Here("eo'f", "a\n", expands=True)]), ("RUN <<'e'o\\'f\na\neo'f", [Here("eo'f", "a\n", expands=False)]),
        ("RUN <<'one two'\na\none two", [Here("one two", "a\n", expands=False)]), ("RUN <<$E\n$E\n", [Here("$E", "", expands=True)]),
        ("RUN <<  E\nE", [Here("E", "", expands=True)]), ("RUN <<- E >x\nE", [Here("E", "", expands=True, strips=True)]), ("RUN <<<E", []),
        ('RUN ["<<E"]', []), ("RUN <<E'", []), ("RUN << ", []), ("RUN <<E\r\na\r\nE\r\n", [Here("E", "a\r\n", expands=True)]),
        ("ONBUILD RUN <<E\nx\nE", [Here("E", "x\n", expands=True)]), ("ONBUILD run --mount=a <<E\nx\nE", [Here("E", "x\n", expands=True)]),
        ("ONBUILD USER <<E", []), ("RUN a \\\n <<E\nx\nE", [Here("E", "x\n", expands=True)]), ("CMD <<E", []),
        ("RUN cat <<E && \\\n b\nx\nE", [Here("E", "x\n", True)]),
    ],
)  # fmt: skip
def test_here_documents_follow_the_instruction_that_names_them(text: str, expected: list[Here]) -> None:
    file = syntax.parse(f"{text}\n\nRUN after".encode())
    assert list(file.statements[0].here) == expected, "in their order, up to a line with the name alone"
    assert file.statements[1].rest == "after" and len(file.statements) == 2, "what follows is an instruction again"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Dockerfile:1: the file has no instructions"), (b"\n# a\n", "Dockerfile:2: the file has no instructions"),
        (b"FROM a\nRNU b", "Dockerfile:2: unknown instruction RNU; did you mean RUN\\? \\(in 'RNU b'\\)"),
        (b"xyz", "unknown instruction xyz; known are ADD"),
        (b"FROM a\n\nRUN <<E\nx\n", "Dockerfile:3: the here-document E is not closed"),
        (b"FROM \xff", "Dockerfile:1: the instruction is not text"),
        (b"FROM a\0", "Dockerfile:1: the instruction is not text"), (b"RUN <<E\n\xff\nE", "here-document E is not text"),
        (b"RUN " + b"a" * 70000, "Dockerfile:1: a line has at most 65535 characters"), (b"a" * (3 << 20), "at most 2097152 bytes"),
        (b"RUN a\n" * 6000, "Dockerfile:5001: a Dockerfile has at most 5000 instructions"), (b"\\\n", "Dockerfile:1: unknown instruction"),
    ],
    ids=lambda value: str(value[:20]),
)  # fmt: skip
def test_an_error_names_the_line(data: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        syntax.parse(data)


def test_a_comment_may_be_written_in_any_encoding() -> None:
    assert syntax.parse(b"# \xff\nRUN a").statements[0].rest == "a", "nobody reads it"
