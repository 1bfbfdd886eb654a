"""What a Dockerfile's words mean: quotes, escapes, variables and patterns, as BuildKit has them."""

from __future__ import annotations

import time

import pytest

from bayplan.build import expansion, reading, syntax
from bayplan.build.instructions import Arg, Copy, Env, Expose, Run, Volume, Workdir
from bayplan.errors import Invalid

VARIABLES = {
    "PWD": "/home",
    "SHELL": "bash",
    "KOREAN": "한국어",
    "NULL": "",
    "FOO": "xxyy",
    "X": "x",
    "SPACED": " a  b ",
    "URL": "http://g.de",
}


def word(text: str, escape: str = "\\", **more: str) -> str:
    return expansion.word(text, {**VARIABLES, **more}, escape=escape)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello", "hello"), ("he'll'o", "hello"), ("he\\'llo", "he'llo"), ("he\\\\'llo'", "he\\llo"), ("abc\\tdef", "abctdef"),
        ('"abc\\tdef"', "abc\\tdef"), ("'abc\\tdef'", "abc\\tdef"), ("hello\\", "hello"), ("hello\\\\", "hello\\"), ('"\'\'"', "''"),
        ("$.", "$."), ("he$1x", "hex"), ("he$.x", "he$.x"), ("he$PWD.", "he/home."), ("he\\$PWD", "he$PWD"), ("he\\\\$PWD", "he\\/home"),
        ("he\\${}", "he${}"), ("he${hi}xx", "hexx"), ("he${PWD}", "he/home"), ("'${XX}'", "${XX}"), ("\"'$PWD'\"", "'/home'"), ("$$", ""),
        ("'\\$PWD'", "\\$PWD"), ('"he\\$PWD"', "he$PWD"), ("안\\'녕$KOREAN", "안'녕한국어"),
        ("a b", "a b"), ("$", "$"), ("", ""), ("$?", ""),
        ('"a\\"b\\\\c"', 'a"b\\c'), ("${PWD}${PWD}", "/home/home"), ("$PWD_x", ""), ("$12x", "x"), ("${12}", ""), ("\\ ", " "),
    ],
)  # fmt: skip
def test_quotes_escapes_and_plain_variables(text: str, expected: str) -> None:
    assert word(text) == expected, "as the shell, but with the escapes of a Dockerfile"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${XXX:-000}xx", "000xx"), ("${PWD:-000}xx", "/homexx"), ("${NULL:-d}", "d"), ("${NULL-d}", ""), ("${XXX-d}", "d"),
        ("${XXX:-${YYY:-yyy}}xx", "yyyxx"), ("${XXX:-$PWD}", "/home"), ("${XXX:+${PWD}}xx", "xx"), ("${PWD:+${SHELL}}xx", "bashxx"),
        ("${NULL:+r}", ""), ("${NULL+r}", "r"), ("${XXX+r}", ""), ("${XXX:-\\$PWD:}xx", "$PWD:xx"), ("${XXX:-\\${PWD}z}xx", "${PWDz}xx"),
        ("${PWD:?no}", "/home"), ("${NULL?no}", ""), ("${PWD:+${PWD}:}xx", "/home:xx"), ("${XXX:-'a }'}", "a }"),
        ('"${XXX:-"a b"}"', "a b"),
        ("${PWD:-${XXX:?never}}", "/home"),
    ],
)  # fmt: skip
def test_operators_of_variables(text: str, expected: str) -> None:
    if "never" in text:  # the word is read whether it is used or not
        with pytest.raises(Invalid, match="never"):
            word(text)
    else:
        assert word(text) == expected, "as the Dockerfile reference has them"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${FOO#x}", "xyy"), ("${FOO#*x}", "xyy"), ("${FOO##*x}", "yy"), ("${FOO#*}", "xxyy"), ("${FOO##*}", ""), ("${FOO#$X}", "xyy"),
        ("${FOO#}", "xxyy"), ("${FOO##}", "xxyy"), ("${FOO%y}", "xxy"), ("${FOO%%y*}", "xx"), ("${FOO%y*}", "xxy"), ("${FOO%}", "xxyy"),
        ("${FOO#*x*y}", "y"), ("${FOO##*x*y}", ""), ("${XXX#x}", ""), ("${URL##*/}", "g.de"), ("${URL%%:*}", "http"), ("${FOO#?}", "xyy"),
        ("${FOO%?y}", "xx"), ("${FOO/x/z}", "zxyy"), ("${FOO//x/z}", "zzyy"), ("${FOO//x}", None), ("${FOO///}", "xxyy"),
        ("${FOO/x/}", "xyy"),
        ("${FOO//x*y/z}", "z"), ("${FOO//?/z}", "zzzz"), ("${URL/http:\\/\\//https:\\/\\/}", "https:\\/\\/g.de"), ("${FOO//*/z}", "z"),
        ("${FOO/$NULL/w}", "wxxyy"), ("${FOO//q/z}", "xxyy"), ("${XXX//a/b}", ""), ("${FOO:#x}", "xyy"), ("${FOO/y*/}", "xx"),
    ],
)  # fmt: skip
def test_patterns_trim_and_replace(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(Invalid):
            word(text)
    else:
        assert word(text) == expected, "shortest and longest matches, first and all"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("${V#()[]{\\}^$.\\*\\?|\\\\}", "()[]{}^$.*?|\\x", "x"), ("${V%%\\**}", "xx**", "xx"), ("${V#?\\?}", "???y", "?y"),
        ("${V%%\\**\\*}", "a***yy*", "a"), ("${V/$N/.}", "/foo*/*/*.txt", "/foo.*/*.txt"), ("${V//$N/.}", "/foo*/*/*.txt", "/foo..*.txt"),
        ("${V//\\//_}", "/tmp/a", "_tmp_a"), ("${V//a?c/-}", "abcaXcac", "--ac"), ("${V%%?a}", "bab", "bab"), ("${V%a?b*}", "aabbab", "a"),
        ("${V//aa/b}", "aaaaa", "bba"), ("${V##a?c*a?c}", "abcxabcy", "y"), ("${V#a*?c}", "abcxc", "xc"), ("${V##a*?c}", "abcxcz", "z"),
        ("${V//*a/b}", "xaya", "b"), ("${V//a*/b}", "xaya", "xb"), ("${V//\\*/}", "a*b*", "ab"),
    ],
)  # fmt: skip
def test_patterns_with_special_characters(text: str, value: str, expected: str) -> None:
    assert word(text, V=value, N="\\*/") == expected, "an escape makes a character itself"


@pytest.mark.parametrize(
    "text",
    ["'a", '"a', "${", "${}", "${PWD", "${.}", "${:}", "${{x}", "${PWD:=000}", "${PWD:x}", "${PWD=x}", "${XXX?}", "${NULL:?}",
     "${XXX:?why}", "${PWD!x}", "${FOO/x}", "${FOO//x", "${FOO#\\x}", "${FOO#\\", "${XXX:-", "${XXX:-'}"],
)  # fmt: skip
def test_what_is_malformed_is_an_error(text: str) -> None:
    with pytest.raises(Invalid):
        word(text)


def test_a_demanded_variable_says_the_files_reason() -> None:
    with pytest.raises(Invalid, match=r"variable VERSION: give x, please"):
        word("${VERSION:?give $X, please}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello${SPACED}bye", ("hello", "a", "b", "bye")), ('hello"${SPACED}"bye', ("hello a  b bye",)),
        ("hello there ", ("hello", "there")),
        ("hello\\ there", ("hello there",)), ('hello" there "', ("hello there ",)), ("''", ()), ("$NULL", ()), ("80 $X", ("80", "x")),
    ],
)  # fmt: skip
def test_words_are_split_after_their_variables_are_known(text: str, expected: tuple[str, ...]) -> None:
    assert expansion.split(text, VARIABLES, escape="\\") == expected, "quotes hold a word together"


def test_the_escape_character_is_the_files() -> None:
    assert word("`$PWD C:\\x", escape="`") == "$PWD C:\\x", "a backslash is nothing special then"
    assert word('"`"$X`n"', escape="`") == '"x`n', "within quotes, too"


def test_hostile_patterns_and_variables_are_bounded() -> None:
    began = time.process_time()
    assert word("${V##" + "*a" * 500 + "b}", V="a" * 20000), "no match takes no time"
    assert word("${V//" + "?a*" * 200 + "b/x}", V="a" * 20000), "no match takes no time"
    assert time.process_time() - began < 10, "stars do not multiply"
    with pytest.raises(Invalid, match="longer"):
        word("$V" * 20, V="x" * 100_000)
    with pytest.raises(Invalid, match="longer"):
        word("${V//x/" + "y" * 10000 + "}", V="x" * 1000)
    with pytest.raises(Invalid, match="deeper"):
        word("${N:-" * 60 + "}" * 60)


def expanded(text: str, variables: dict[str, str], escape: str = "\\") -> object:
    statement = syntax.parse(f"# escape={escape}\n{text}\n".encode()).statements[0]
    return expansion.expand(reading.read(statement, escape=escape), variables, escape=escape)


def test_env_sees_the_values_before_the_instruction() -> None:
    env = expanded("ENV abc=bye def=$abc $abc=k", {"abc": "hello"})
    assert isinstance(env, Env) and env.variables == (("abc", "bye"), ("def", "hello"), ("hello", "k")), "as the reference's example"


def test_the_old_form_of_env_takes_the_rest_of_the_line() -> None:
    env = expanded("ENV a   b 'c  d' = $X", {"X": "x"})
    assert isinstance(env, Env) and env.variables == (("a", "b c  d = x"),), "quotes are removed, spaces stay"


def test_the_words_of_each_instruction() -> None:
    copy = expanded("COPY --chown=$U --chmod=$M --exclude=$E $S /$D", {"U": "u", "M": "755", "E": "*.md", "S": "a b", "D": "d"})
    assert isinstance(copy, Copy), "an instruction stays what it is"
    assert (copy.sources, copy.destination, copy.chown, copy.chmod, copy.exclude) == (("a b",), "/d", "u", "755", ("*.md",)), (
        "one word each"
    )
    expose = expanded("EXPOSE $P 90/udp", {"P": "80 81"})
    assert isinstance(expose, Expose) and expose.ports == ("80", "81", "90/udp"), "EXPOSE splits"
    volume = expanded('VOLUME ["$P", "/b"]', {"P": "/a x"})
    assert isinstance(volume, Volume) and volume.paths == ("/a x", "/b"), "VOLUME does not, and JSON is expanded, too"
    workdir = expanded("WORKDIR /a b/$P", {"P": "c"})
    assert isinstance(workdir, Workdir) and workdir.path == "/a b/c", "the rest of the line is one word"
    arg = expanded("ARG a=$X b", {"X": "x"})
    assert isinstance(arg, Arg) and arg.arguments == (("a", "x"), ("b", None)), "a default is expanded"


@pytest.mark.parametrize(
    "text", ["RUN echo $X", 'CMD ["$X"]', "ENTRYPOINT $X", 'SHELL ["$X"]', "HEALTHCHECK CMD $X", "ONBUILD RUN $X", "MAINTAINER $X"]
)
def test_what_a_shell_reads_is_left_to_it(text: str) -> None:
    assert expanded(text, {"X": "x"}) == expanded(text, {}), "nothing is replaced"


def test_here_documents_of_a_copy_are_expanded_unless_they_are_quoted() -> None:
    copy = expanded("COPY <<A <<'B' /x\n$X \"q\" \\$X 'y'\nA\n$X\nB", {"X": "x"})
    assert isinstance(copy, Copy) and [one.content for one in copy.inline] == ["x \"q\" $X 'y'\n", "$X\n"], "quotes in them stay"


def test_a_runs_mounts_are_known_after_their_variables() -> None:
    statement = syntax.parse(b"RUN --mount=type=$T,target=/$D,from=base x").statements[0]
    run = reading.read(statement, escape="\\")
    assert isinstance(run, Run) and run.mounts[0].origin == "base", "what it is from is known before"
    settled = expansion.expand(run, {"T": "bind", "D": "d"}, escape="\\")
    assert isinstance(settled, Run) and (settled.mounts[0].type, settled.mounts[0].target) == ("bind", "/d"), "the rest is known after"


def test_an_error_says_where_it_stands() -> None:
    with pytest.raises(Invalid, match=r"^Dockerfile:2: variable X: it has to be set \(in 'USER \${X\?}'\)"):
        expanded("USER ${X?}", {})
    with pytest.raises(Invalid, match=r"^Dockerfile:2: VOLUME: a volume's path is empty"):
        expanded("VOLUME $NOTHING", {})
    with pytest.raises(Invalid, match=r"^Dockerfile:2: .*unknown mount type 'q'"):
        expanded("RUN --mount=type=$T x", {"T": "q"})


def test_variables_without_a_value_are_told() -> None:
    statement = syntax.parse(b"WORKDIR /$A/$B").statements[0]
    assert expansion.expand_known(reading.read(statement, escape="\\"), {"A": ""}, escape="\\").unset == {"B"}, "for a warning"
