"""Indexes that were made here: named lists of images for several platforms, until they are pushed.

Each is a row: the document as it will be pushed, where each of its manifests comes from ("" is this store), and which blobs of
this store have to stay for it.
"""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

_TABLE = (
    "CREATE TABLE IF NOT EXISTS image_index (name TEXT PRIMARY KEY, document TEXT NOT NULL, origins TEXT NOT NULL,"
    " blobs TEXT NOT NULL) WITHOUT ROWID"
)


class IndexRow(NamedTuple):
    """`name` and `origins` (one for each of the document's manifests) are canonical references; `blobs` digests."""

    name: str
    document: str
    origins: tuple[str, ...]
    blobs: tuple[str, ...]


def put(db: sqlite3.Connection, row: IndexRow) -> None:
    """In a transaction of the caller's."""
    db.execute(_TABLE)
    values = (row.name, row.document, "\n".join(each or "-" for each in row.origins), "\n".join(row.blobs))
    db.execute("INSERT OR REPLACE INTO image_index VALUES (?, ?, ?, ?)", values)


def named(db: sqlite3.Connection, name: str) -> IndexRow | None:
    return next((row for row in listed(db) if row.name == name), None)


def listed(db: sqlite3.Connection) -> tuple[IndexRow, ...]:
    if not _exists(db):
        return ()
    return tuple(_row(each) for each in db.execute("SELECT name, document, origins, blobs FROM image_index ORDER BY name"))


def remove(db: sqlite3.Connection, name: str) -> None:
    """In a transaction of the caller's. The blobs go with the next sweep."""
    if _exists(db):
        db.execute("DELETE FROM image_index WHERE name = ?", (name,))


def _row(values: tuple[str, str, str, str]) -> IndexRow:
    origins = tuple("" if each == "-" else each for each in values[2].split())
    return IndexRow(values[0], values[1], origins, tuple(values[3].split()))


def _exists(db: sqlite3.Connection) -> bool:
    """A state of an older version, or one that never had an index, has no such table."""
    return bool(db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'image_index'").fetchone())
