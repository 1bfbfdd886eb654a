"""What builds have made, by what it was made of: a step that comes again takes the layer that it made the last time.

A key is a digest of everything that the step's result depends on: the layers below, the instruction, its variables, the content that it
copies (engine/build_keys.py). No time is in it. What a record names is kept by the sweep as long as the record is there.
"""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_TABLE = (
    "CREATE TABLE IF NOT EXISTS build_cache (key TEXT PRIMARY KEY, layer TEXT NOT NULL, description TEXT NOT NULL,"
    " created TEXT NOT NULL, used TEXT NOT NULL) WITHOUT ROWID"
)


class Step(NamedTuple):
    """`layer` is a diff_id, or "" for a step that changed no file; times are RFC 3339."""

    key: str
    layer: str
    description: str
    created: str
    used: str


def find(db: sqlite3.Connection, key: str) -> Step | None:
    if not _exists(db):
        return None
    row = db.execute("SELECT key, layer, description, created, used FROM build_cache WHERE key = ?", (key,)).fetchone()
    return Step(*row) if row else None


def put(db: sqlite3.Connection, step: Step) -> None:
    """In a transaction of the caller's."""
    db.execute(_TABLE)
    db.execute("INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?, ?, ?)", step)


def note_use(db: sqlite3.Connection, keys: Iterable[str], *, at: str) -> None:
    """In a transaction of the caller's."""
    db.executemany("UPDATE build_cache SET used = ? WHERE key = ?", [(at, key) for key in keys])


def steps(db: sqlite3.Connection) -> tuple[Step, ...]:
    """All of them, what was used longest ago first."""
    if not _exists(db):
        return ()
    return tuple(Step(*row) for row in db.execute("SELECT key, layer, description, created, used FROM build_cache ORDER BY used, key"))


def remove(db: sqlite3.Connection, keys: Iterable[str]) -> None:
    """In a transaction of the caller's. The layers go with the next sweep."""
    if _exists(db):
        db.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in keys])


def _exists(db: sqlite3.Connection) -> bool:
    """A state of an older version, or one that never built anything, has no such table."""
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'build_cache'").fetchone())
