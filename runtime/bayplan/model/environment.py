"""`environment`, `env_file`, and the pairs that are written like them: labels, annotations."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.container import Pairs
from bayplan.model.node import Node
from bayplan.model.scope import Scope
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse_pairs(node: Node, scope: Scope) -> Pairs:
    """Labels or annotations, a mapping or a list of `KEY=VALUE`; a key alone has the empty value."""
    return tuple(sorted((key, value or "") for key, value in _pairs(node).items()))


def parse_environment(environment: Node | None, env_file: Node | None, scope: Scope) -> Pairs:
    """Files first, in order, then `environment`. A variable without a value was unset where the document was read: left out."""
    found: dict[str, str | None] = {}
    for path, node in env_file_paths(env_file) if env_file else ():
        found.update(_file_variables(path, node, scope))
    found.update(_pairs(environment) if environment else {})
    return tuple(sorted((key, value) for key, value in found.items() if value is not None))


def env_file_paths(node: Node) -> list[tuple[str, Node]]:
    """The paths of `env_file` with their places; `required: false` and `format: raw` are of the long form."""
    found = []
    for element in node.one_or_many():
        members = element.members(("path", "required", "format")) if isinstance(element.value, dict) else {"path": element}
        if "path" not in members:
            raise element.wrong("path is missing")
        if "format" in members:
            members["format"].choice("raw")
        found.append((members["path"].line(), element))
    return found


def _pairs(node: Node) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    if isinstance(node.value, (list, tuple)):
        for element in node.elements():
            key, separator, value = element.scalar().partition("=")
            found[_key(key, element)] = value if separator else None
    else:
        for key, each in node.entries():
            found[_key(key, each)] = None if each.value is None else each.scalar()
    return found


def _key(key: str, node: Node) -> str:
    if not key or "=" in key or "\0" in key:
        raise node.expected("a name that is neither empty nor holds '='")
    return key


def _file_variables(path: str, node: Node, scope: Scope) -> Mapping[str, str | None]:
    from base64 import b64decode

    from bayplan.model import dotenv

    options = node.value if isinstance(node.value, dict) else {}
    if path not in scope.carried:
        if options.get("required") is False:
            return {}
        raise node.wrong(f"the file {path!r} was not carried with the document")
    try:
        text = b64decode(scope.carried[path], validate=True).decode()
    except ValueError as error:
        raise node.wrong(f"the file {path!r} is not UTF-8 text") from error
    try:
        return dotenv.parse(text, {}, raw=options.get("format") == "raw")
    except Invalid as error:
        raise node.wrong(f"{path}: {error}") from error
