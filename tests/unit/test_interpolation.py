from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.model import dotenv
from bayplan.model.interpolation import interpolate, interpolate_tree
from bayplan.model.node import Node

VARIABLES = {"A": "a", "EMPTY": "", "NESTED": "${A}"}


def expand(text: str) -> str:
    return interpolate(Node(text, "here"), VARIABLES.get)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A/${A}", "a/a"), ("$$A", "$A"), ("${NO}", ""), ("${NO-d}", "d"), ("${EMPTY-d}", ""), ("${EMPTY:-d}", "d"),
        ("${A:-d}", "a"), ("${A+r}", "r"), ("${A:+r}", "r"), ("${EMPTY:+r}", ""), ("${EMPTY+r}", "r"), ("${NO+r}", ""),
        ("${A:?why}", "a"), ("${NO:-${A}}", "a"), ("${NO:-${NO2:-x}y}", "xy"), ("${NO:-$$}", "$"), ("${NESTED}", "${A}"),
        ("${NO:-a:b/c}", "a:b/c"), ("a}b", "a}b"), ("", ""),
    ],
)  # fmt: skip
def test_variables_are_replaced_as_the_specification_says(text: str, expected: str) -> None:
    assert expand(text) == expected, "values are never interpolated again"


@pytest.mark.parametrize("text", ["$", "${", "${}", "${A", "${1}", "$ x", "${A!b}", "${NO:?say why}", "${EMPTY:?}", "${NO?}"])
def test_a_malformed_or_demanded_variable_is_an_error_with_its_place(text: str) -> None:
    with pytest.raises(Invalid, match=r"^here: "):
        expand(text)


def test_a_demanded_variable_says_the_documents_reason() -> None:
    with pytest.raises(Invalid, match=r"variable NO is not set: say why"):
        expand("${NO:?say why}")


def test_deep_nesting_and_long_results_are_bounded() -> None:
    with pytest.raises(Invalid, match="nested"):
        expand("${N:-" * 50 + "}" * 50)
    with pytest.raises(Invalid, match="longer"):
        interpolate(Node("$X" * 2000, "here"), lambda name: "x" * 1000)


def test_keys_and_numbers_of_a_tree_are_left_alone() -> None:
    tree = {"$A": ["$A", 5, None, {"b": "${A}"}]}
    assert interpolate_tree(Node(tree, ""), VARIABLES.get) == {"$A": ["a", 5, None, {"b": "a"}]}, "only values change"


@given(st.text(max_size=60))
def test_interpolation_of_anything_ends_with_a_text_or_invalid(text: str) -> None:
    with suppress(Invalid):
        assert isinstance(expand(text), str), "a text stays a text"


ENV_FILE = """\
# comment
A=1
export B = two words  # comment
C='literal $A # kept'
D="with $A\\n\\"quoted\\" \\$x"
E=
F=a#b
G="two
lines"
ONLY

H=${A}${OUT:-none}
"""


def test_an_env_file_is_read_line_by_line() -> None:
    assert dotenv.parse(ENV_FILE, {"OUT": "o"}) == {
        "A": "1", "B": "two words", "C": "literal $A # kept", "D": 'with 1\n"quoted" $x', "E": "", "F": "a#b",
        "G": "two\nlines", "ONLY": None, "H": "1o",
    }, "quotes, comments, escapes and variables are as Compose has them"  # fmt: skip


def test_a_raw_env_file_is_literal() -> None:
    assert dotenv.parse("A='x' # y $z\r\nB=\"\n", {}, raw=True) == {"A": "'x' # y $z", "B": '"'}, "raw is raw"


@pytest.mark.parametrize("text", ["=x", "1A=x", "A b", "A='x", 'A="x', "A='x' y", "A=1\n???"])
def test_a_broken_env_file_names_the_line(text: str) -> None:
    with pytest.raises(Invalid, match=r"line \d"):
        dotenv.parse(text, {})


@given(st.text(alphabet="AB=#'\"\\ \n\r$x{}", max_size=40), st.booleans())
def test_any_env_file_is_read_or_refused(text: str, raw: bool) -> None:
    with suppress(Invalid):
        dotenv.parse(text, {}, raw=raw)
