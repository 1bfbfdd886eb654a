"""The records: what was declared, who has which name, address and port. One SQLite database per state root.

Writers use `transaction()`: BEGIN IMMEDIATE, short, with a long busy timeout. A name, an address or a port is claimed by
the insert that records its owner, so two processes cannot both have it. What only the world knows (is it running?) is not here.
"""

from __future__ import annotations

import os

from bayplan.errors import Conflict, Invalid, Unavailable
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
else:
    from bayplan.store import sqlite

    sqlite3 = sqlite.load()

SCHEMA = 1
BUSY_MILLISECONDS = 30_000
# A process ends without closing the database: the next one that is alone with it reads the whole log again, 5 microseconds a page.
LOG_PAGES = 100

_TABLES = """
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE image (id TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, created TEXT NOT NULL,
    layers TEXT NOT NULL, blobs TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE image_name (name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES image(id)) WITHOUT ROWID;
CREATE TABLE network (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL, bridge TEXT NOT NULL UNIQUE,
    subnet TEXT NOT NULL, gateway TEXT NOT NULL, subnet6 TEXT NOT NULL, gateway6 TEXT NOT NULL, mtu INTEGER NOT NULL,
    project TEXT NOT NULL, created TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE volume (name TEXT PRIMARY KEY, document TEXT NOT NULL, project TEXT NOT NULL, anonymous INTEGER NOT NULL,
    created TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE container (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES image(id),
    project TEXT NOT NULL, created TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE endpoint (container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE,
    network TEXT NOT NULL REFERENCES network(id), position INTEGER NOT NULL, ipv4 TEXT NOT NULL, ipv6 TEXT,
    mac TEXT NOT NULL, names TEXT NOT NULL, PRIMARY KEY (container, network), UNIQUE (network, ipv4), UNIQUE (network, ipv6)) WITHOUT ROWID;
CREATE TABLE port (protocol TEXT NOT NULL, host_ip TEXT NOT NULL, port INTEGER NOT NULL, target INTEGER NOT NULL,
    container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, PRIMARY KEY (protocol, host_ip, port)) WITHOUT ROWID;
CREATE TABLE volume_use (container TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, target TEXT NOT NULL,
    volume TEXT NOT NULL REFERENCES volume(name), PRIMARY KEY (container, target)) WITHOUT ROWID;
CREATE INDEX container_image ON container (image);
CREATE INDEX endpoint_network ON endpoint (network);
CREATE INDEX port_container ON port (container);
"""


class ImageRow(NamedTuple):
    """id is the config's digest; layers the diff_ids, bottom first; blobs all digests that the image needs; size in bytes."""

    id: str
    digest: str
    size: int
    created: str
    layers: tuple[str, ...]
    blobs: tuple[str, ...]


class NetworkRow(NamedTuple):
    """subnet is "10.89.0.0/24", gateway an address, or both are empty; mtu bytes; document the declaration as JSON."""

    id: str
    name: str
    document: str
    bridge: str
    subnet: str
    gateway: str
    subnet6: str
    gateway6: str
    mtu: int
    project: str
    created: str


class VolumeRow(NamedTuple):
    name: str
    document: str
    project: str
    anonymous: bool
    created: str


class ContainerRow(NamedTuple):
    """The row appears when all of the container's files lie there, and goes before them: a directory without a row is debris."""

    id: str
    name: str
    document: str
    image: str
    project: str
    created: str


class EndpointRow(NamedTuple):
    """names are the container's names on this network, its own first; position orders a container's interfaces."""

    container: str
    network: str
    position: int
    ipv4: str
    ipv6: str | None
    mac: str
    names: tuple[str, ...]


class PortRow(NamedTuple):
    protocol: str
    host_ip: str
    port: int
    target: int
    container: str


class VolumeUseRow(NamedTuple):
    """The container has the volume at the path `target`."""

    container: str
    target: str
    volume: str


def exist(path: str) -> bool:
    return os.path.exists(path)


def open_records(path: str, *, create: bool, lasting: bool = True) -> sqlite3.Connection:
    """Open the database; make it first where `create` says so. The path "" is an empty one in memory.

    `lasting` False gives up durability of the last transactions over a power cut (never consistency): for what is removed
    again anyway. Raises Unavailable where the file cannot be read, Invalid where a newer runtime has written it.
    """
    mode = "rwc" if create else "rw"
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    location = f"file:{quoted}?mode={mode}" if path else ":memory:"
    try:
        db = sqlite3.connect(location, uri=True, timeout=BUSY_MILLISECONDS / 1000, isolation_level=None)
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA synchronous=FULL" if lasting else "PRAGMA synchronous=NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
        _check_schema(db, path, create)
    except sqlite3.Error as error:
        raise Unavailable(f"opening the records {path}: {error}") from error
    return db


def _check_schema(db: sqlite3.Connection, path: str, create: bool) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise Invalid(
            f"opening the records {path}: they have schema {version}, this runtime knows {SCHEMA}; use a newer bayplan"
        )
    if version == 0 and create:
        if path:
            db.execute("PRAGMA journal_mode=WAL")
            os.chmod(path, 0o600)
        with transaction(db):
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _TABLES.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO state VALUES ('id', ?)", (os.urandom(4).hex(),))
                db.execute(f"PRAGMA user_version={SCHEMA}")
    elif version == 0:
        raise Unavailable(f"opening the records {path}: the database is empty or was cut off; restore it or remove the state root")


def claim_ids(db: sqlite3.Connection, container: str, *, slots: int, first: int) -> int:
    """The container's own range of user ids, as a number below `slots`: the one that it has, or the next free one from `first` on.

    The range is its until its record goes. Raises Unavailable where none is left.
    """
    with transaction(db):  # records from before there were ranges have no such table
        db.execute("CREATE TABLE IF NOT EXISTS id_range (slot INTEGER PRIMARY KEY,"
                   " container TEXT NOT NULL UNIQUE REFERENCES container(id) ON DELETE CASCADE)")  # fmt: skip
        taken = {owner: slot for slot, owner in db.execute("SELECT slot, container FROM id_range")}
        if container in taken:
            return int(taken[container])
        used = set(taken.values())
        slot = next(((first + each) % slots for each in range(slots) if (first + each) % slots not in used), -1)
        if slot < 0:
            raise Unavailable(f"giving the container user ids of its own: all {slots} ranges are taken; remove containers that have one")
        db.execute("INSERT INTO id_range VALUES (?, ?)", (slot, container))
        return slot


class transaction:
    """All or nothing, and no other writer meanwhile. An error of SQLite becomes Unavailable; constraints pass as they are."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._execute("ROLLBACK" if kind else "COMMIT")
        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
            raise Unavailable(f"writing the records: {error}") from error

    def _execute(self, statement: str) -> None:
        try:
            self._db.execute(statement)
        except sqlite3.Error as error:
            raise Unavailable(f"writing the records: {error}") from error


class reading:
    """One consistent picture of all tables, whatever others write meanwhile; nobody waits for anybody."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._db.execute("ROLLBACK")


def state_value(db: sqlite3.Connection, key: str) -> str:
    row = db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


# Images


def put_image(db: sqlite3.Connection, image: ImageRow, names: tuple[str, ...]) -> None:
    """Record an image and point `names` (canonical references) to it, away from whatever they named before."""
    row = (*image[:4], "\n".join(image.layers), "\n".join(image.blobs))
    db.execute("INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?)", row)
    for name in names:
        db.execute("INSERT OR REPLACE INTO image_name VALUES (?, ?)", (name, image.id))


def image_named(db: sqlite3.Connection, name: str) -> ImageRow | None:
    row = db.execute("SELECT image.* FROM image_name JOIN image ON image.id = image WHERE name = ?", (name,)).fetchone()
    return _image(row) if row else None


def image_by_id(db: sqlite3.Connection, image_id: str) -> ImageRow:
    """An image that a container is made from, and that therefore is there."""
    return _image(db.execute("SELECT * FROM image WHERE id = ?", (image_id,)).fetchone())


def images(db: sqlite3.Connection) -> tuple[ImageRow, ...]:
    return tuple(_image(row) for row in db.execute("SELECT * FROM image ORDER BY created DESC, id"))


def image_names(db: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """Image id -> its names, for all images that have one."""
    found: dict[str, tuple[str, ...]] = {}
    for name, image in db.execute("SELECT name, image FROM image_name ORDER BY name"):
        found[image] = (*found.get(image, ()), name)
    return found


def remove_image_name(db: sqlite3.Connection, name: str) -> None:
    db.execute("DELETE FROM image_name WHERE name = ?", (name,))


def remove_image(db: sqlite3.Connection, image_id: str) -> None:
    """Raises Conflict where a container still uses it."""
    user = db.execute("SELECT name FROM container WHERE image = ?", (image_id,)).fetchone()
    if user:
        raise Conflict(f"removing image {image_id[7:19]}: container {user[0]} uses it; remove the container first")
    db.execute("DELETE FROM image_name WHERE image = ?", (image_id,))
    db.execute("DELETE FROM image WHERE id = ?", (image_id,))


def _image(row: tuple[str, str, int, str, str, str]) -> ImageRow:
    return ImageRow(row[0], row[1], row[2], row[3], tuple(row[4].split()), tuple(row[5].split()))


# Networks


def put_network(db: sqlite3.Connection, network: NetworkRow) -> None:
    try:
        db.execute("INSERT INTO network VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", network)
    except sqlite3.IntegrityError as error:
        raise Conflict(f"creating network {network.name}: a network of this name exists") from error


def update_network(db: sqlite3.Connection, network: NetworkRow) -> None:
    db.execute(
        "UPDATE network SET document = ?, subnet = ?, gateway = ?, subnet6 = ?, gateway6 = ? WHERE id = ?",
        (network.document, network.subnet, network.gateway, network.subnet6, network.gateway6, network.id),
    )


def networks(db: sqlite3.Connection) -> tuple[NetworkRow, ...]:
    return tuple(NetworkRow(*row) for row in db.execute("SELECT * FROM network ORDER BY name"))


def network_named(db: sqlite3.Connection, name: str) -> NetworkRow | None:
    row = db.execute("SELECT * FROM network WHERE name = ?", (name,)).fetchone()
    return NetworkRow(*row) if row else None


def network_by_id(db: sqlite3.Connection, network_id: str) -> NetworkRow:
    return NetworkRow(*db.execute("SELECT * FROM network WHERE id = ?", (network_id,)).fetchone())


def remove_network(db: sqlite3.Connection, network: NetworkRow) -> None:
    user = db.execute(
        "SELECT container.name FROM endpoint JOIN container ON container.id = container WHERE network = ?", (network.id,)
    ).fetchone()
    if user:
        raise Conflict(f"removing network {network.name}: container {user[0]} is on it; disconnect or remove it first")
    db.execute("DELETE FROM network WHERE id = ?", (network.id,))


# Volumes


def put_volume(db: sqlite3.Connection, volume: VolumeRow) -> None:
    """Record a volume; one of that name that is there already gets the new document."""
    db.execute(
        "INSERT INTO volume VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document", volume
    )


def volumes(db: sqlite3.Connection) -> tuple[VolumeRow, ...]:
    return tuple(_volume(row) for row in db.execute("SELECT * FROM volume ORDER BY name"))


def volume_named(db: sqlite3.Connection, name: str) -> VolumeRow | None:
    row = db.execute("SELECT * FROM volume WHERE name = ?", (name,)).fetchone()
    return _volume(row) if row else None


def remove_volume(db: sqlite3.Connection, name: str) -> None:
    user = db.execute(
        "SELECT container.name FROM volume_use JOIN container ON container.id = container WHERE volume = ?", (name,)
    ).fetchone()
    if user:
        raise Conflict(f"removing volume {name}: container {user[0]} uses it; remove the container first")
    db.execute("DELETE FROM volume WHERE name = ?", (name,))


def volume_uses(db: sqlite3.Connection, *, container: str = "") -> tuple[VolumeUseRow, ...]:
    if container:
        rows = db.execute("SELECT * FROM volume_use WHERE container = ? ORDER BY target", (container,))
    else:
        rows = db.execute("SELECT * FROM volume_use ORDER BY volume, container")
    return tuple(VolumeUseRow(*row) for row in rows)


def _volume(row: tuple[str, str, str, int, str]) -> VolumeRow:
    return VolumeRow(row[0], row[1], row[2], bool(row[3]), row[4])


# Containers


def put_container(db: sqlite3.Connection, container: ContainerRow) -> None:
    try:
        db.execute("INSERT INTO container VALUES (?, ?, ?, ?, ?, ?)", container)
    except sqlite3.IntegrityError as error:
        if "FOREIGN KEY" in str(error):
            raise Conflict(f"creating container {container.name}: its image has been removed meanwhile; try again") from error
        raise Conflict(
            f"creating container {container.name}: the name is in use; remove or rename the container that has it"
        ) from error


def set_container_document(db: sqlite3.Connection, container_id: str, document: str) -> None:
    db.execute("UPDATE container SET document = ? WHERE id = ?", (document, container_id))


def set_container_name(db: sqlite3.Connection, container_id: str, name: str) -> None:
    try:
        db.execute("UPDATE container SET name = ? WHERE id = ?", (name, container_id))
    except sqlite3.IntegrityError as error:
        raise Conflict(f"renaming a container to {name}: the name is in use") from error


def containers(db: sqlite3.Connection) -> tuple[ContainerRow, ...]:
    return tuple(ContainerRow(*row) for row in db.execute("SELECT * FROM container ORDER BY created DESC, id"))


def container_named(db: sqlite3.Connection, name: str) -> ContainerRow | None:
    row = db.execute("SELECT * FROM container WHERE name = ?", (name,)).fetchone()
    return ContainerRow(*row) if row else None


def containers_by_prefix(db: sqlite3.Connection, prefix: str) -> tuple[ContainerRow, ...]:
    """Containers whose id starts with `prefix`, which is hexadecimal digits."""
    rows = db.execute("SELECT * FROM container WHERE id >= ? AND id < ?", (prefix, prefix + "g"))
    return tuple(ContainerRow(*row) for row in rows)


def remove_container(db: sqlite3.Connection, container_id: str) -> None:
    """Its addresses, ports and uses of volumes go with it; the volumes stay."""
    db.execute("DELETE FROM container WHERE id = ?", (container_id,))


# What containers claim


def put_endpoint(db: sqlite3.Connection, endpoint: EndpointRow) -> None:
    try:
        db.execute("INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?)", (*endpoint[:6], " ".join(endpoint.names)))
    except sqlite3.IntegrityError as error:
        raise Conflict(f"leasing address {endpoint.ipv4}: another container has it") from error


def endpoints(db: sqlite3.Connection, *, container: str = "", network: str = "") -> tuple[EndpointRow, ...]:
    """Of one container in its interfaces' order, of one network, or all."""
    if container:
        rows = db.execute("SELECT * FROM endpoint WHERE container = ? ORDER BY position", (container,))
    elif network:
        rows = db.execute("SELECT * FROM endpoint WHERE network = ? ORDER BY ipv4", (network,))
    else:
        rows = db.execute("SELECT * FROM endpoint ORDER BY container, position")
    return tuple(EndpointRow(row[0], row[1], row[2], row[3], row[4], row[5], tuple(row[6].split())) for row in rows)


def remove_endpoint(db: sqlite3.Connection, container: str, network: str) -> None:
    db.execute("DELETE FROM endpoint WHERE container = ? AND network = ?", (container, network))


def put_port(db: sqlite3.Connection, port: PortRow) -> None:
    """Claim a host port. A claim of one address and one of all addresses clash as well; raises Conflict naming the owner."""
    other = db.execute(
        "SELECT container.name, host_ip FROM port JOIN container ON container.id = container"
        " WHERE protocol = ? AND port = ? AND (host_ip = ? OR host_ip = '' OR ? = '')",
        (port.protocol, port.port, port.host_ip, port.host_ip),
    ).fetchone()
    if other:
        where = f"{port.host_ip or other[1] or '0.0.0.0'}:{port.port}/{port.protocol}"
        raise Conflict(f"publishing port {where}: container {other[0]} has it; choose another or remove that container")
    db.execute("INSERT INTO port VALUES (?, ?, ?, ?, ?)", port)


def ports(db: sqlite3.Connection, *, container: str = "") -> tuple[PortRow, ...]:
    if container:
        rows = db.execute("SELECT * FROM port WHERE container = ? ORDER BY target, port", (container,))
    else:
        rows = db.execute("SELECT * FROM port ORDER BY port")
    return tuple(PortRow(*row) for row in rows)


def remove_ports(db: sqlite3.Connection, container: str) -> None:
    db.execute("DELETE FROM port WHERE container = ?", (container,))


def put_volume_use(db: sqlite3.Connection, use: VolumeUseRow) -> None:
    db.execute("INSERT INTO volume_use VALUES (?, ?, ?)", use)
