"""What the names inside a service mean: a project's own resources, or themselves."""

from __future__ import annotations

from bayplan.model.node import Node
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Content(NamedTuple):
    """A file that was carried with the document: base64 of its content, and "sha256:…" of the content itself."""

    digest: str
    base64: str


class Scope(NamedTuple):
    """Key -> name of each kind of resource; None is a document of single resources, where a key is the name.

    directory "" is unknown: a relative bind source is an error then. contents maps (kind, key) of a secret or config;
    carried maps a path as it is written to its base64. recorded is for our own records: they hold digests, not contents.
    """

    project: str = ""
    directory: str = ""
    networks: Mapping[str, str] | None = None
    volumes: Mapping[str, str] | None = None
    containers: Mapping[str, str] | None = None
    contents: Mapping[tuple[str, str], Content] = {}
    carried: Mapping[str, str] = {}
    yaml11: bool = False
    recorded: bool = False

    def network(self, node: Node, key: str) -> str:
        return _resolve(node, key, self.networks, "network")

    def volume(self, node: Node, key: str) -> str:
        return _resolve(node, key, self.volumes, "volume")

    def container(self, node: Node, key: str) -> str:
        return _resolve(node, key, self.containers, "service")


def _resolve(node: Node, key: str, declared: Mapping[str, str] | None, kind: str) -> str:
    if declared is None:
        return key
    if key not in declared:
        profile = ", or enable its profile" if kind == "service" else ""
        raise node.wrong(f"{kind} {key!r} is not declared; add it under {kind}s{profile}")
    return declared[key]
