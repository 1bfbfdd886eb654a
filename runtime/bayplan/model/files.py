"""A service's `secrets` and `configs`: files inside whose content was declared, and carried, with the document."""

from __future__ import annotations

from bayplan.model import names
from bayplan.model.container import File
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.scope import Content, Scope
from bayplan.model.secret import Secret
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_KEYS = ("source", "target", "uid", "gid", "mode")
_DIGEST = r"(?a)sha256:[0-9a-f]{64}"
_RECORDED = "x-digest"


def parse_files(secrets: Node | None, configs: Node | None, scope: Scope) -> tuple[File, ...]:
    """All secrets and configs by target, each target once."""
    found: dict[str, File] = {}
    for kind, node in (("secret", secrets), ("config", configs)):
        for element in node.elements() if node else ():
            file = _file(kind, element, scope)
            if file.target in found:
                raise element.wrong(f"two files have the target {file.target}")
            found[file.target] = file
    return tuple(found[target] for target in sorted(found))


def files_document(files: tuple[File, ...]) -> dict[str, Any]:
    """`secrets` and `configs` with their digests and without their contents; a scope of records reads them back."""
    document: dict[str, Any] = {}
    for file in files:
        document.setdefault(f"{file.kind}s", []).append(
            {
                "source": file.name,
                "target": file.target,
                "uid": str(file.uid),
                "gid": str(file.gid),
                "mode": f"0{file.mode:o}",
                _RECORDED: file.digest,
            }
        )
    return document


def content(kind: str, data: bytes) -> Content:
    """What a file's content becomes on its way: a secret's base64 has a repr of `***`."""
    from base64 import b64encode
    from hashlib import sha256  # 7 ms: only where files are declared

    encoded = b64encode(data).decode()
    return Content(f"sha256:{sha256(data).hexdigest()}", Secret(encoded) if kind == "secret" else encoded)


def _file(kind: str, node: Node, scope: Scope) -> File:
    members = {"source": node} if isinstance(node.value, str) else node.members(_KEYS)
    if "source" not in members:
        raise node.wrong("source, the name of what is declared at the top level, is missing")
    name = members["source"].line()
    found = _content(kind, name, node, scope)
    return File(
        kind=kind,
        name=name,
        target=_target(kind, members.get("target"), name, node),
        digest=found.digest,
        content=found.base64,
        uid=members["uid"].integer(0, 2**32 - 2) if "uid" in members else 0,
        gid=members["gid"].integer(0, 2**32 - 2) if "gid" in members else 0,
        mode=mode(members["mode"]) if "mode" in members else 0o444,
    )


def mode(node: Node) -> int:
    """Permission bits: a number as it is, a text as octal digits, as Compose reads both."""
    if isinstance(node.value, str) and fullmatch("(?:0o)?[0-7]{1,5}", node.value):
        return Node(int(node.value.replace("0o", ""), 8), node.place).integer(0, 0o7777)
    if isinstance(node.value, str):
        raise node.expected("octal permissions such as 0440")
    return node.integer(0, 0o7777)


def _content(kind: str, name: str, node: Node, scope: Scope) -> Content:
    if scope.recorded:
        digest = node.value.get(_RECORDED) if isinstance(node.value, dict) else None
        if not isinstance(digest, str) or not fullmatch(_DIGEST, digest):
            raise node.wrong(f"the record has no digest for {kind} {name!r}")
        return Content(digest, "")
    if (kind, name) not in scope.contents:
        raise node.wrong(f"{kind} {name!r} is not declared; add it under {kind}s")
    return scope.contents[kind, name]


def _target(kind: str, node: Node | None, name: str, element: Node) -> str:
    text = node.text() if node else name
    directory = "/run/secrets/" if kind == "secret" else "/"
    return names.path(Node(text if text.startswith("/") else directory + text, (node or element).place))
