"""Containers that a replacement has put aside: their names, and what becomes of them where it was killed (engine/replace.py)."""

from __future__ import annotations

from bayplan.engine import containers
from bayplan.engine.state import State
from bayplan.store import records
from bayplan.store.records import ContainerRow

ASIDE = ".replaced"


def has_remains(state: State) -> bool:
    """Whether a replacement was killed, and left two containers for one."""
    return any(row.name.endswith(ASIDE) for row in records.containers(state.records))


def recovered(state: State, rows: tuple[ContainerRow, ...]) -> tuple[ContainerRow, ...]:
    """The containers as they are once replace.recover has undone, or finished, every replacement that was killed."""
    there = {row.name: row for row in rows}
    for row in [row for row in rows if row.name.endswith(ASIDE)]:
        name = row.name[: -len(ASIDE)]
        new = there.get(name)
        del there[row.name]
        there[name] = new if new and took_over(state, new) else row._replace(name=name)
    return tuple(there.values())


def took_over(state: State, new: ContainerRow) -> bool:
    """A new container is in its place once it has the ports that it declares."""
    return len(records.ports(state.records, container=new.id)) == len(containers.record_of(new).spec.ports)
