"""An open state: where it lies, its records and the id that everything of it in the kernel carries."""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import records
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    import sqlite3

NO_STATE_ID = "00000000"


class State(NamedTuple):
    """id is eight hexadecimal digits: the part of names of tables, bridges and cgroups that says whose they are."""

    root: StateRoot
    records: sqlite3.Connection
    id: str


def open_state(path: str, *, create: bool = False, lasting: bool = True) -> State:
    """Open the state at `path`, made first where `create` says so. An absent one is opened as an empty one in memory,
    so that looking creates nothing. Raises Invalid and Unavailable as open_records does."""
    root = StateRoot(path.rstrip("/") or "/")
    if create:
        root.create()
    if not create and not records.exist(root.database):
        return State(root, records.open_records("", create=True), NO_STATE_ID)
    db = records.open_records(root.database, create=create, lasting=lasting)
    return State(root, db, records.state_value(db, "id"))
