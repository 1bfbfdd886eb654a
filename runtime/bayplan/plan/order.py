"""In which order containers start: after what they depend on and after whose namespaces they join."""

from __future__ import annotations

from bayplan.errors import Conflict
from bayplan.model.container import Container
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def sharing(spec: Container) -> tuple[str, ...]:
    """The containers whose namespaces `spec` joins."""
    modes = (spec.network_mode, spec.pid, spec.ipc, spec.uts)
    return tuple(dict.fromkeys(mode[len("container:") :] for mode in modes if mode.startswith("container:")))


def prerequisites(spec: Container) -> tuple[str, ...]:
    """The containers that must be there before `spec` starts."""
    return (*(dependency.container for dependency in spec.depends_on), *sharing(spec))


def dependency_order(specs: Mapping[str, Container], handovers: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names so that each comes after its prerequisites among them, else in the given order; Conflict for a cycle.

    `handovers` names, for a container, those that must change first because they still hold a port or an address of its.
    """
    needs = {name: tuple(each for each in prerequisites(spec) if each in specs) for name, spec in specs.items()}
    order = _sorted(needs, "break the cycle of depends_on")
    if not handovers:
        return order
    return _sorted(
        {name: (*needs[name], *handovers.get(name, ())) for name in specs},
        "they exchange ports or addresses; take them from one of the two in a run of its own",
    )


def _sorted(needs: Mapping[str, tuple[str, ...]], remedy: str) -> tuple[str, ...]:
    ordered: dict[str, None] = {}
    for name in needs:
        _visit(name, needs, ordered, remedy)
    return tuple(ordered)


def _visit(start: str, needs: Mapping[str, tuple[str, ...]], ordered: dict[str, None], remedy: str) -> None:
    """Depth first with a stack of its own: a chain of dependencies may be longer than Python recurses."""
    path = {start: iter(needs[start])} if start not in ordered else {}
    while path:
        name = next(reversed(path))
        following = next((each for each in path[name] if each not in ordered), None)
        if following is None:
            ordered[name] = None
            del path[name]
        elif following in path:
            cycle = [*path][[*path].index(following) :]
            raise Conflict(f"ordering the containers: {' needs '.join([*cycle, following])}; {remedy}")
        else:
            path[following] = iter(needs[following])


def levels(specs: Mapping[str, Container]) -> list[frozenset[str]]:
    """The names in groups: each needs only names of the groups before its own. What a cycle holds comes last, together."""
    found: list[frozenset[str]] = []
    placed: set[str] = set()
    while len(placed) < len(specs):
        waiting = [name for name in specs if name not in placed]
        ready = [name for name in waiting if all(each in placed or each not in specs for each in prerequisites(specs[name]))]
        found.append(frozenset(ready or waiting))
        placed |= found[-1]
    return found
