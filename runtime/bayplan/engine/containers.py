"""Containers: made, found, looked at, removed. How one is started and ended is in start.py and stop.py."""

from __future__ import annotations

import os

from bayplan.engine import clock, guard, images, volumes
from bayplan.engine.state import State
from bayplan.errors import Conflict, Invalid, NotFound, Unavailable
from bayplan.model import jsontext, names
from bayplan.model.container import Container, File, Mount
from bayplan.model.image import ImageConfig
from bayplan.model.scope import Scope
from bayplan.model.service import parse_service, service_document
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.model.volume import Volume
from bayplan.plan.bundle import arguments, file_path
from bayplan.store import locks, records, status
from bayplan.store.records import ContainerRow, VolumeUseRow
from bayplan.store.status import Started
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORDED = Scope(recorded=True)
NOTHING: Mapping[str, str] = {}
RUNNING = ("running", "restarting", "paused")


class Record(NamedTuple):
    """A container as recorded; spec is the declaration that was applied, image the id of what it runs."""

    id: str
    name: str
    spec: Container
    image_id: str
    created: str


class Run(NamedTuple):
    """What the world shows of a container. status: created, running, restarting, paused, exited, dead (its monitor was lost)."""

    status: str
    pid: int = 0
    exit_code: int = 0
    health: str = ""
    oom_killed: bool = False
    started_at: str = ""
    finished_at: str = ""
    restarts: int = 0
    monitored: bool = False


def create(
    state: State,
    spec: Container,
    *,
    auth: Mapping[str, str] | None = None,
    declared: Container | None = None,
    carried: Mapping[str, str] = NOTHING,
) -> Record:
    """Make the container, its image, volumes and leases; it is not started. Raises what these raise, and then nothing is left.

    `declared` is what is recorded, where that is not what it is made from. `carried` maps the paths of anonymous volumes to
    those of the container before it, which it takes over.
    """
    from bayplan.engine import endpoints  # who only looks at containers needs nothing of the kernel's

    if spec.runtime:
        from bayplan.engine import runtime_calls  # for those who name one

        runtime_calls.find(spec.runtime)
    state.root.create()
    with guard.clearing(state), locks.content(state.root.path, exclusive=False):  # no sweep takes the image before the record names it
        image = images.ensure(state, spec.image, pull=spec.pull, platform=spec.platform, auth=auth)
        config = images.config(state, image.id)
        arguments(spec, config)
        document = jsontext.dumps(service_document(declared or spec))
        row = ContainerRow(os.urandom(32).hex(), spec.name, document, image.id, spec.project, clock.now())
        directory = state.root.container(row.id)
        lock = locks.new_container(directory, staging=state.root.staging)
        uses: list[VolumeUseRow] = []
        try:
            _write_files(directory, spec.files)
            _claim_volumes(state, uses, row.id, spec, config, carried)
            endpoints.prepare(state, spec)
            with records.transaction(state.records):
                records.put_container(state.records, row)
                for use in uses:
                    records.put_volume_use(state.records, use)
                endpoints.claim(state, row.id, spec)
        except BaseException:
            remove_tree(directory, scratch=state.root.staging)
            _remove_unused(state, uses, carried)
            raise
        finally:
            os.close(lock)
    return Record(row.id, row.name, spec, row.image, row.created)


def _remove_unused(state: State, uses: list[VolumeUseRow], carried: Mapping[str, str]) -> None:
    """The anonymous volumes of a container that was not made."""
    for use in uses:
        found = records.volume_named(state.records, use.volume)
        if found and found.anonymous and use.volume not in carried.values():
            volumes.remove(state, use.volume, force=True)


def _write_files(directory: str, files: tuple[File, ...]) -> None:
    """The content of secrets and configs, in the container's own directory, which only root may enter."""
    if not files:
        return
    import base64

    os.mkdir(f"{directory}/files", 0o700)
    for index, each in enumerate(files):
        fd = os.open(file_path(directory, index), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(base64.b64decode(each.content.encode()))
            os.fchown(fd, each.uid, each.gid)
            os.fchmod(fd, each.mode)


def _claim_volumes(
    state: State, uses: list[VolumeUseRow], container_id: str, spec: Container, config: ImageConfig, carried: Mapping[str, str]
) -> None:
    """Add to `uses` every volume that the container mounts, made where it is not there: named, anonymous, and the image's own."""
    taken = {mount.target for mount in spec.mounts} | {file.target for file in spec.files}
    inherited = [Mount("volume", target) for target in _image_volumes(spec, config) if target not in taken]
    for mount in (*spec.mounts, *inherited):
        if mount.kind != "volume":
            continue
        name = mount.source or carried.get(mount.target, "") or os.urandom(32).hex()
        uses.append(VolumeUseRow(container_id, mount.target, name))
        if records.volume_named(state.records, name) is None:
            volumes.create(state, Volume(name), anonymous=not mount.source)


def anonymous_volumes(state: State, container_id: str) -> dict[str, str]:
    """The container's volumes that nobody named, by the paths where they are mounted."""
    uses = records.volume_uses(state.records, container=container_id)
    rows = {use.target: records.volume_named(state.records, use.volume) for use in uses}
    return {target: row.name for target, row in rows.items() if row and row.anonymous}


def _image_volumes(spec: Container, config: ImageConfig) -> tuple[str, ...]:
    """The paths of the image's own volumes, cleaned as declared ones are: `//data` must not come to lie over a declared `/data`."""
    targets = tuple(dict.fromkeys(names.clean(text) for text in config.volumes))
    if "/" in targets:
        raise Invalid(f"making container {spec.name}: its image {spec.image} wants a volume at /, the root file system")
    return targets


def record_of(row: ContainerRow) -> Record:
    """Raises Unavailable where what is recorded cannot be read."""
    try:
        document = jsontext.loads(row.document)
    except ValueError as error:
        raise Unavailable(f"reading the record of container {row.name} (db.sqlite): {error}; put a backup of that file back") from error
    spec = parse_service(row.name, document, RECORDED)
    return Record(row.id, row.name, spec, row.image, row.created)


def find(state: State, name: str) -> Record:
    """By name, by id, or by the first digits of one. Raises NotFound; Invalid where several ids begin so."""
    row = records.container_named(state.records, name)
    if row is None and name and not set(name) - set("0123456789abcdef"):
        found = records.containers_by_prefix(state.records, name)
        if len(found) > 1:
            raise Invalid(f"looking up container {name}: {len(found)} containers have an id that begins so; give more digits")
        row = found[0] if found else None
    if row is None:
        raise NotFound(f"looking up container {name}: there is none of this name or id")
    return record_of(row)


def all_records(state: State) -> tuple[Record, ...]:
    return tuple(record_of(row) for row in records.containers(state.records))


def run_of(state: State, container_id: str, *, boot: str = "") -> Run:
    """How the container is doing now. `boot` saves reading the boot id for each of many."""
    directory = state.root.container(container_id)
    started = status.read_started(directory)
    if started is None:
        return Run("created")
    boot = boot or status.boot_id()
    monitored = status.monitor_alive(started, boot)
    health = str(status.read_health(directory).get("Status", ""))
    since = clock.rfc3339(started.at)
    if status.process_alive(started, boot):
        doing = "paused" if status.marked_paused(directory) and _is_frozen(state, container_id) else "running"
        return Run(doing, started.pid, 0, health, False, since, "", started.restarts, monitored)
    ended = status.read_exit(directory)
    if status.read_started(directory) != started:  # its next run has begun meanwhile, and perhaps ended: the two do not belong together
        return run_of(state, container_id, boot=boot)
    if monitored and ended is None:
        return Run("running", started_at=since, restarts=started.restarts, monitored=True)
    if monitored and ended and ended.restart_at:
        return Run("restarting", 0, ended.exit_code, "", False, since, ended.finished_at, started.restarts, monitored=True)
    if ended is None:
        return Run("dead" if started.boot_id == boot else "exited", 0, 255, "", False, since, "", started.restarts)
    return Run("exited", 0, ended.exit_code, "", ended.oom_killed, since, ended.finished_at, started.restarts)


def _is_frozen(state: State, container_id: str) -> bool:
    from bayplan.engine import cgroup
    from bayplan.kernel import freezer

    own = cgroup.find(state, container_id)
    return own is not None and freezer.is_frozen(own)


def started(state: State, record: Record) -> Started:
    """Who runs the container; raises Conflict where it does not run."""
    found = status.read_started(state.root.container(record.id))
    if found is None or not status.process_alive(found, status.boot_id()):
        raise Conflict(f"reaching into container {record.name}: it is not running; start it first")
    return found


def update(state: State, record: Record, spec: Container) -> Record:
    """Record another declaration for the container; what the kernel and the monitor need to know is engine/adjust.py's matter."""
    with records.transaction(state.records):
        records.set_container_document(state.records, record.id, jsontext.dumps(service_document(spec)))
    return record._replace(spec=spec)
