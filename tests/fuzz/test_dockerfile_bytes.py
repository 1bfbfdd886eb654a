"""Whatever a Dockerfile holds, it is a plan or it is Invalid and names a line; what is written from values is read back."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bayplan.build import expansion, globs, ignore, reading, stages, syntax
from bayplan.build.instructions import Arg, Cmd, Copy, Env, Label, Run
from bayplan.errors import Invalid

SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
VARIABLES = {"A": "a", "B": "x y", "C": "", "D": "$A"}
_PIECES = [
    "FROM", "FROM a", "AS", "ARG", "ENV", "RUN", "COPY", "ADD", "CMD", "ONBUILD", "HEALTHCHECK", "SHELL", "VOLUME", "EXPOSE", "LABEL",
    "USER", "--from=", "--mount=", "--link", "--chown=", "type=cache,target=/a", "type=secret,id=", "from=", "<<E", "<<-'E'", "\nE\n",
    "3<<", "EOF", "#", "# escape=`\n", "\\", "`", "\\\n", "\n", "\r\n", "\t", " ", "=", "a", "b=c", "'", '"', "[", "]", '["a"]', ",", "$",
    "${", "}", "$A", "${B:-", "${A#", "${A//", "/", "*", "?", "é", "\0", "0", "NONE", "--",
]  # fmt: skip
FILES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(_PIECES), max_size=14).map(lambda pieces: "".join(pieces).encode()),
    st.lists(st.sampled_from(_PIECES), max_size=14).map(lambda pieces: ("FROM a\n" + " ".join(pieces)).encode()),
)


@SETTINGS
@given(FILES)
@example(b"FROM a\nRUN <<E\n")
@example(b"FROM a\nONBUILD RUN <<E\nE\nFROM 0")
def test_any_bytes_are_a_plan_or_invalid_with_a_line(data: bytes) -> None:
    try:
        plan = stages.plan(syntax.parse(data, "file"), build_args={"A": "1"}, platform="linux/amd64")
        for stage in plan.stages:
            for instruction in stage.instructions:
                expansion.expand(instruction, VARIABLES, escape=plan.escape)
                if isinstance(instruction, Arg):
                    stages.declared(plan, instruction, VARIABLES)
    except Invalid as error:
        assert str(error).startswith("file:"), "it says where it stands"
        assert str(error).split(":")[1].isdigit() or "there is no FROM" in str(error), "with its line"


@SETTINGS
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_PIECES), max_size=10).map("".join)), st.sampled_from("\\`"))
def test_any_text_is_a_word_or_invalid(text: str, escape: str) -> None:
    with suppress(Invalid):
        words = expansion.split(text, VARIABLES, escape=escape)
        whole = expansion.word(text, VARIABLES, escape=escape)
        assert "".join("".join(words).split()) == "".join(whole.split()), "words are the text without the spaces between them"


_TEXTS = st.text(st.characters(blacklist_characters="\0\n\r", blacklist_categories=["Cs"]), max_size=20)


def _quoted(text: str) -> str:
    """The word that means `text`."""
    return '"' + "".join("\\" + character if character in '"\\$' else character for character in text) + '"'


def _read(text: str) -> object:
    statement = syntax.parse(text.encode()).statements[0]
    return expansion.expand(reading.read(statement, escape="\\"), VARIABLES, escape="\\")


@SETTINGS
@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True), _TEXTS), min_size=1, max_size=4))
def test_variables_and_labels_are_read_back(pairs: list[tuple[str, str]]) -> None:
    written = " \\\n  ".join(f"{name}={_quoted(value)}" for name, value in pairs)
    env, label, arg = _read(f"ENV {written}"), _read(f"LABEL {written}"), _read(f"ARG {written}")
    assert isinstance(env, Env) and env.variables == tuple(pairs), "quoted values are themselves"
    assert isinstance(label, Label) and label.labels == tuple(pairs), "in labels, too"
    assert isinstance(arg, Arg) and arg.arguments == tuple(pairs), "and in arguments"


@SETTINGS
@given(st.lists(_TEXTS, min_size=2, max_size=4))
def test_lists_in_json_are_read_back(words: list[str]) -> None:
    listed = json.dumps(words)
    cmd, run = _read(f"CMD {listed}"), _read(f"RUN {listed}")
    assert isinstance(cmd, Cmd) and cmd.command.words == tuple(words), "word by word"
    assert isinstance(run, Run) and run.command == cmd.command and not run.command.shell, "without a shell"
    copy = _read(f"COPY {json.dumps([_quoted(word) for word in words])}")
    assert isinstance(copy, Copy) and (*copy.sources, copy.destination) == tuple(words), "what is expanded is quoted in it"


@SETTINGS
@given(st.lists(_TEXTS.filter(lambda line: line != "E"), max_size=5))
def test_here_documents_are_read_back(lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines)
    copy = _read(f"COPY <<'E' /x\n{content}E\n")
    assert isinstance(copy, Copy) and copy.inline[0].content == content, "byte by byte"
    run = _read(f"RUN cat <<E\n{content}E\n")
    assert isinstance(run, Run) and run.command.words == (f"cat <<E\n{content}E",), "as the shell reads it"


@SETTINGS
@given(st.lists(st.sampled_from(["a", "b", "ab", "*", "?"]), max_size=6), st.text(alphabet="ab", max_size=8))
def test_a_pattern_trims_as_the_shell_does(pieces: list[str], value: str) -> None:
    import re

    pattern = "".join(pieces)
    parts = [re.escape(piece) if piece not in "*?" else piece.replace("*", ".*").replace("?", ".") for piece in pieces]
    ends = [end for end in range(len(value) + 1) if re.fullmatch("".join(parts), value[:end])]
    begins = [begin for begin in range(len(value) + 1) if re.fullmatch("".join(parts), value[begin:])]
    assert globs.trimmed(value, pattern, end=False, longest=True) == (value[max(ends) :] if ends else value), "##"
    assert globs.trimmed(value, pattern, end=False, longest=False) == (value[min(ends) :] if ends else value), "#"
    assert globs.trimmed(value, pattern, end=True, longest=True) == (value[: min(begins)] if begins else value), "%%"
    assert globs.trimmed(value, pattern, end=True, longest=False) == (value[: max(begins)] if begins else value), "%"


@SETTINGS
@given(st.binary(max_size=60), st.text(max_size=20))
def test_any_bytes_are_patterns_or_invalid_with_a_line(data: bytes, path: str) -> None:
    try:
        found = ignore.parse(data, "ignore")
    except Invalid as error:
        assert str(error).startswith("ignore:"), "it says where it stands"
    else:
        assert not found.skips(path) or found.excludes(path), "what is skipped is excluded"
