"""`inspect`: what is known of containers, images, networks and volumes, in the shape of Docker's documents."""

from __future__ import annotations

from bayplan.cli.call import Call
from bayplan.cli.output import complain, escaped_at_terminal, json_text, write
from bayplan.errors import Invalid, NotFound
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from bayplan.engine.state import State

Reader: TypeAlias = "Callable[[State, str], dict[str, Any]]"
_KINDS = ("container", "image", "network", "volume")


def inspect(call: Call) -> int:
    """Each name is that of a container, else of an image, else of a network, else of a volume."""
    kind = call.text("type")
    if kind and kind not in _KINDS:
        raise Invalid(f"inspect: --type is one of {', '.join(_KINDS)}, not {kind!r}")
    return _show(call, (kind,) if kind else _KINDS)


def container(call: Call) -> int:
    return _show(call, ("container",))


def image(call: Call) -> int:
    return _show(call, ("image",))


def network(call: Call) -> int:
    return _show(call, ("network",))


def volume(call: Call) -> int:
    return _show(call, ("volume",))


def _show(call: Call, kinds: tuple[str, ...]) -> int:
    """All that are found, as a JSON list or by a template; then an error for each that is not."""
    state, found, code = call.state(), [], 0
    for name in call.arguments:
        try:
            found.append(_document(state, name, kinds))
        except NotFound as error:
            complain(error)
            code = 1
    template = call.text("format")
    if template in ("", "json"):
        write(json_text(found, indent=0 if template else 4))
        return code
    from bayplan.cli.template import parse, render

    nodes = parse(template)
    for document in found:
        write(escaped_at_terminal(render(nodes, document)))
    return code


def _document(state: State, name: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    for kind in kinds:
        try:
            return _READERS[kind](state, name)
        except NotFound:
            if len(kinds) == 1:
                raise
        except Invalid:  # what is a name of one kind may be malformed as that of another
            if kind == kinds[-1] or kind == "container":
                raise
    raise NotFound(f"inspecting {name}: there is no container, image, network or volume of this name or id")


def _container(state: State, name: str) -> dict[str, Any]:
    from bayplan.engine import containers, info

    return info.container(state, containers.find(state, name))


def _image(state: State, name: str) -> dict[str, Any]:
    from bayplan.engine import images

    return images.document(state, images.find(state, name))


def _network(state: State, name: str) -> dict[str, Any]:
    from bayplan.engine import networks

    return networks.document(state, name)


def _volume(state: State, name: str) -> dict[str, Any]:
    from bayplan.engine import volumes

    return volumes.document(state, name)


_READERS: dict[str, Reader] = {"container": _container, "image": _image, "network": _network, "volume": _volume}
