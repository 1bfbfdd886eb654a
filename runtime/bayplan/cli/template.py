"""The part of Go's text/template that people use with --format.

{{.Name}} {{.State.Status}} {{json .}} {{index .Labels "key"}} {{len .Mounts}} {{join .Names ", "}} {{upper .Name}} {{lower .Name}}
{{range .Mounts}}…{{else}}…{{end}}   {{range $k, $v := .Networks}}…{{end}}   {{if eq .State "running"}}…{{else}}…{{end}}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from bayplan.cli.output import json_text
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, Union

_ACTION = re.compile(r"\{\{(-?)(.*?)(-?)\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|:=|,|\||\(|\)|[^\s|,()]+')
_DEEPEST = 20


class Value(NamedTuple):
    """An action that shows a value: its words."""

    words: tuple[str, ...]


class Block(NamedTuple):
    """kind: range, if. names are the variables that a range sets."""

    kind: str
    names: tuple[str, ...]
    words: tuple[str, ...]
    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]


if TYPE_CHECKING:
    Node = Union[str, Value, Block]


def parse(text: str) -> tuple[Node, ...]:
    """Read a template; raises Invalid."""
    nodes, closing, _ = _parse(_tokens(text), 0)
    if closing:
        raise Invalid(f"reading the template: {{{{{closing}}}}} closes nothing")
    return nodes


def render(nodes: Sequence[Node], document: Any) -> str:
    """The template's text for one document; raises Invalid where it asks for what is not there."""
    return "".join(_render(nodes, document, {"$": document}))


def fields(nodes: Sequence[Node]) -> list[str]:
    """The member that each action shows, in order: a table's headings."""
    found = []
    for node in nodes:
        if isinstance(node, Value):
            names = [word.lstrip(".") for word in node.words if word.startswith(".") and word != "."]
            found.append(names[0] if names else "")
    return found


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """Texts and actions (True); a dash inside the braces takes away the white space beside it."""
    at, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if trim else before
        yield (before.rstrip() if match[1] else before), False
        yield match[2].strip(), True
        at, trim = match.end(), bool(match[3])
    rest = text[at:].lstrip() if trim else text[at:]
    if "{{" in rest:
        raise Invalid("reading the template: an action has no end }}")
    yield rest, False


def _parse(tokens: Iterator[tuple[str, bool]], depth: int) -> tuple[tuple[Node, ...], str, bool]:
    """Nodes up to the `end` or `else` of the block that we are in: they, and that word."""
    if depth > _DEEPEST:
        raise Invalid("reading the template: it is nested too deep")
    nodes: list[Node] = []
    for token, is_action in tokens:
        if not is_action:
            nodes += [token] if token else []
            continue
        words = tuple(_WORD.findall(token))
        if not words or words[0].startswith("/*"):
            continue
        if words[0] in ("end", "else"):
            if len(words) > 1:
                raise Invalid(f"reading the template: {{{{{token}}}}} is not supported")
            return tuple(nodes), words[0], True
        nodes.append(_block(words, tokens, depth) if words[0] in ("range", "if") else Value(words))
    if depth:
        raise Invalid("reading the template: a block has no {{end}}")
    return tuple(nodes), "", False


def _block(words: tuple[str, ...], tokens: Iterator[tuple[str, bool]], depth: int) -> Block:
    names: tuple[str, ...] = ()
    kind, rest = words[0], words[1:]
    if ":=" in rest:
        at = rest.index(":=")
        names, rest = tuple(word for word in rest[:at] if word != ","), rest[at + 1 :]
    body, closing, _ = _parse(tokens, depth + 1)
    otherwise: tuple[Node, ...] = ()
    if closing == "else":
        otherwise, _, _ = _parse(tokens, depth + 1)
    return Block(kind, names, rest, body, otherwise)


def _render(nodes: Sequence[Node], dot: Any, variables: Mapping[str, Any]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Value):
            yield _shown(_evaluate(node.words, dot, variables))
        elif node.kind == "if":
            yield from _render(node.body if _evaluate(node.words, dot, variables) else node.otherwise, dot, variables)
        else:
            yield from _range(node, dot, variables)


def _range(node: Block, dot: Any, variables: Mapping[str, Any]) -> Iterator[str]:
    found = _evaluate(node.words, dot, variables)
    pairs = list(found.items()) if isinstance(found, Mapping) else list(enumerate(found or ()))
    for key, value in pairs:
        own = {node.names[-1]: value} if node.names else {}
        own.update({node.names[0]: key} if len(node.names) == 2 else {})
        yield from _render(node.body, value, {**variables, **own})
    if not pairs:
        yield from _render(node.otherwise, dot, variables)


def _evaluate(words: Sequence[str], dot: Any, variables: Mapping[str, Any]) -> Any:
    """A pipeline: each stage's value is the last argument of the next."""
    value: list[Any] = []
    stage: list[str] = []
    for word in (*words, "|"):
        if word != "|":
            stage.append(word)
            continue
        value = [_stage(stage, dot, variables, value)]
        stage = []
    return value[0]


def _stage(words: list[str], dot: Any, variables: Mapping[str, Any], piped: list[Any]) -> Any:
    if not words:
        raise Invalid("reading the template: an action is empty")
    function, arguments = words[0], _arguments(words[1:], dot, variables) + piped
    if function in _FUNCTIONS:
        try:
            return _FUNCTIONS[function](*arguments)
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise Invalid(f"filling in the template: {' '.join(words)}: {error}") from error
    if len(words) > 1 or piped:
        if words[0] == "(":
            return _arguments(words, dot, variables)[0]
        raise Invalid(f"reading the template: there is no function {function!r}; known are {', '.join(sorted(_FUNCTIONS))}")
    return _operand(function, dot, variables)


def _arguments(words: Sequence[str], dot: Any, variables: Mapping[str, Any]) -> list[Any]:
    """Operands; one in parentheses is a pipeline of its own."""
    found: list[Any] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word != "(":
            found.append(_operand(word, dot, variables))
            continue
        inner, depth = [], 1
        while rest and depth:
            part = rest.pop(0)
            depth += {"(": 1, ")": -1}.get(part, 0)
            inner.append(part)
        found.append(_evaluate(inner[:-1], dot, variables))
    return found


def _operand(word: str, dot: Any, variables: Mapping[str, Any]) -> Any:
    if word[0] in '"`':
        return word[1:-1].replace('\\"', '"').replace("\\\\", "\\").replace("\\t", "\t").replace("\\n", "\n")
    if word.lstrip("-").isdigit():
        return int(word)
    if word in ("true", "false"):
        return word == "true"
    name, _, path = word.partition(".")
    if name and name not in variables:
        raise Invalid(f"reading the template: {word!r} is neither a member (.{word}), a variable nor a function")
    value = variables[name] if name else dot
    for member in path.split(".") if path else ():
        value = _member(value, member, word)
    return value


def _member(value: Any, name: str, word: str) -> Any:
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if value is None:
        return None
    known = f"; it has {', '.join(map(str, value))}" if isinstance(value, Mapping) and value else ""
    raise Invalid(f"filling in the template: {word}: there is no {name!r}{known}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = (value.get(key, "") if isinstance(value, Mapping) else value[key]) if value else ""
    return value


def _shown(value: Any) -> str:
    """As Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_shown(each)}" for key, each in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_shown(each) for each in value) + "]"
    return str(value)


_FUNCTIONS: dict[str, Any] = {
    "json": lambda value: json_text(value),
    "index": _index,
    "len": lambda value: len(value or ()),
    "join": lambda value, separator: separator.join(map(str, value)),
    "split": lambda value, separator: value.split(separator),
    "upper": lambda value: str(value).upper(),
    "lower": lambda value: str(value).lower(),
    "title": lambda value: str(value).title(),
    "println": lambda *values: " ".join(_shown(value) for value in values) + "\n",
    "print": lambda *values: "".join(_shown(value) for value in values),
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "not": lambda value: not value,
    "and": lambda *values: all(values) and values[-1],
    "or": lambda *values: next((value for value in values if value), values[-1]),
}
