"""Names are checked by string methods, for speed; here the same grammar stands as regular expressions."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bayplan.errors import BayplanError
from bayplan.model import jsontext, names, reference
from bayplan.model.node import Node

LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REGISTRY = rf"(?:{LABEL}(?:\.{LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
ID = r"[0-9a-f]{64}"
RULES = {
    names.resource: rf"(?!{ID}\Z)[A-Za-z0-9][A-Za-z0-9_.-]{{1,199}}",
    names.volume: r"[A-Za-z0-9][A-Za-z0-9_.-]{1,199}",
    names.service: r"(?=.*[A-Za-z0-9_])[A-Za-z0-9._-]{1,128}",
    names.project: r"[a-z0-9][a-z0-9_-]{0,127}",
    names.host: r"(?!.*\.\.)[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?",
    names.ipv4: r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!$)|$)){4}",
}
PIECES = [*"aZ09.-_:/[]é٣\n ", "25", "255", "256", "01", "..", "__", "___", "--", "a" * 62, "0" * 64]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def accepts(rule: object, text: str) -> bool:
    try:
        rule(Node(text, "name"))  # type: ignore[operator]
    except BayplanError:
        return False
    return True


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_name_is_allowed_exactly_if_its_grammar_says_so(rule: object) -> None:
    @given(TEXTS)
    @example("a" * 253)
    @example("10.0.0.255")
    def check(text: str) -> None:
        assert accepts(rule, text) == bool(re.fullmatch(RULES[rule], text, re.ASCII)), "both spellings of the rule agree"

    check()


@given(TEXTS)
@example("localhost")
@example("[::1]:5000")
@example("a.b-c.example:65535")
def test_a_registry_is_allowed_exactly_if_its_grammar_says_so(text: str) -> None:
    assert reference._is_registry(text) == bool(re.fullmatch(REGISTRY, text)), "both spellings of the rule agree"


@given(TEXTS)
@example("a---b")
def test_a_repositorys_component_is_allowed_exactly_if_its_grammar_says_so(text: str) -> None:
    assert reference._is_component(text) == bool(re.fullmatch(COMPONENT, text)), "both spellings of the rule agree"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
)


@given(VALUES)
def test_json_without_its_package_is_the_same_json(value: object) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value), "it is written as the package writes it"
    assert jsontext.loads(f" {text}\n") == value, "and read as the package reads it"
    assert jsontext.loads(text.encode()) == value, "from bytes, too"


@given(st.text(alphabet='[]{}",:0123456789.eE+-truefalsn \\u\n', max_size=12))
def test_what_is_not_json_is_refused_as_the_package_refuses_it(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            jsontext.loads(text)
    else:
        assert repr(jsontext.loads(text)) == repr(wanted), "what the package reads is read alike"
