"""In which order containers start: after what they depend on and after whose namespaces they join."""

from __future__ import annotations

from collections.abc import Mapping

from bayplan.errors import Conflict
from bayplan.model.container import Container


def sharing(spec: Container) -> tuple[str, ...]:
    """The containers whose namespaces `spec` joins."""
    modes = (spec.network_mode, spec.pid, spec.ipc)
    return tuple(dict.fromkeys(mode[len("container:") :] for mode in modes if mode.startswith("container:")))


def prerequisites(spec: Container) -> tuple[str, ...]:
    """The containers that must be there before `spec` starts."""
    return (*(dependency.container for dependency in spec.depends_on), *sharing(spec))


def dependency_order(specs: Mapping[str, Container]) -> tuple[str, ...]:
    """The names so that each comes after its prerequisites among them, else in the given order; Conflict for a cycle."""
    ordered: dict[str, None] = {}
    for name in specs:
        _visit(name, specs, ordered)
    return tuple(ordered)


def _visit(start: str, specs: Mapping[str, Container], ordered: dict[str, None]) -> None:
    """Depth first with a stack of its own: a chain of dependencies may be longer than Python recurses."""
    path = {start: iter(prerequisites(specs[start]))} if start not in ordered else {}
    while path:
        name = next(reversed(path))
        following = next((each for each in path[name] if each in specs and each not in ordered), None)
        if following is None:
            ordered[name] = None
            del path[name]
        elif following in path:
            cycle = [*path][[*path].index(following) :]
            raise Conflict(f"ordering the containers: {' needs '.join([*cycle, following])}; break the cycle of depends_on")
        else:
            path[following] = iter(prerequisites(specs[following]))
