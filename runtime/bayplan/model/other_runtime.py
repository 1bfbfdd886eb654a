"""`runtime`: an OCI runtime of the host's that runs a container instead of ours, and what it cannot do for us."""

from __future__ import annotations

from bayplan.model import names
from bayplan.model.container import Container
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.scope import Scope

OURS = "bayplan"
_NAME = r"(?a)[A-Za-z0-9][A-Za-z0-9_.+-]*"


def parse_runtime(node: Node, scope: Scope) -> str:
    """A program's name or its absolute path; "" is ours."""
    text = node.text()
    if text in ("", OURS):
        return ""
    if text.startswith("/") and "\n" not in text:
        return names.clean(text)
    if not fullmatch(_NAME, text):
        raise node.expected("an OCI runtime's name such as runc, or the absolute path of one")
    return text


def check(node: Node, container: Container) -> None:
    """Refuse what the specification has no word for, so that no other runtime would do it. Raises Invalid, naming the key."""
    if not container.runtime:
        return
    shared = any(mount.propagation in ("shared", "rshared") for mount in container.mounts)
    inside = any(mount.subpath for mount in container.mounts)
    for key, asked, why in (
        ("init", container.init, "the init is part of our own runtime"),
        ("userns_mode: private", container.userns == "private", "only our own runtime gives a container's ids to its files"),
        ("systemd: always", container.systemd == "always", "only our own runtime prepares cgroups for it"),
        ("volumes with a subpath", inside, "only our own runtime keeps the way to it inside the volume"),
        ("volumes with shared propagation", shared, "the host would not see what is mounted there; use rslave or rprivate"),
    ):
        if asked:
            raise node.wrong(f"{key} cannot be had from the runtime {container.runtime}: {why}")
