"""What containers have changed of their images: shown, kept as a further image, or written out with all the rest."""

from __future__ import annotations

import contextlib
import os

from bayplan.build import draft as drafts
from bayplan.build import expansion, instructions, reading, syntax
from bayplan.engine import clock, containers, guard, images, pause, pull, sealing
from bayplan.engine.containers import RUNNING, Record
from bayplan.engine.state import State
from bayplan.errors import Conflict, Invalid
from bayplan.model import jsontext
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import bundle
from bayplan.store import adoption, difference, drivers, layers, locks, pack, records
from bayplan.store.difference import DELETED, Difference
from bayplan.store.records import ImageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from bayplan.build.draft import Draft
    from bayplan.store.pack import LeftOut, Packed

INSTRUCTIONS = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR".split()


class Committed(NamedTuple):
    """The new image, and what of the container's files a layer cannot have."""

    row: ImageRow
    left_out: tuple[LeftOut, ...]


def diff(state: State, record: Record) -> tuple[tuple[str, str], ...]:
    """What the container has added, changed and deleted, as Docker shows it: ("A", "/etc/new"), sorted by path."""
    found: list[tuple[bytes, str]] = []
    base = _changes(state, record)[1]
    for each in _differences(state, record):
        found.append((each.found.path, each.kind))
        if each.found.opaque and each.kind != difference.ADDED:
            found += ((path, DELETED) for path in difference.hidden(base, each.found.path))
    shown = dict(sorted(found, key=lambda pair: pair[1] != DELETED))  # what is there again is not gone
    return tuple((kind, "/" + os.fsdecode(path)) for path, kind in sorted(shown.items()))


def export(state: State, record: Record, write: Callable[[bytes], object]) -> Packed:
    """Write the container's whole root file system as a tar archive: its own files, and none of what is mounted into it."""
    with _held(state, record, pausing=False):
        upper, base, tree = _changes(state, record)
        started = os.path.isdir(tree or upper)
        trees = [tree] if tree and started else [*([upper] if started else ()), *base]
        return pack.pack_merged(trees, write, plain=bool(tree) and started)


def commit(
    state: State,
    record: Record,
    *,
    name: str = "",
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pausing: bool = True,
    epoch: int | None = None,
) -> Committed:
    """Make an image of the container: its image's layers and one with what it has changed; none where it has changed nothing.

    `changes` are instructions of a Dockerfile. `pausing`: a running container is held meanwhile, so that its files belong together.
    `epoch` is SOURCE_DATE_EPOCH: no time in the image is later. Raises Invalid, Conflict (another process works on it), Kernel.
    """
    names = (parse_reference(name).canonical,) if name else ()
    document = jsontext.loads(images.config_bytes(state, record.image_id).decode())
    draft = with_changes(_as_run(drafts.of_image(document), record), changes)
    with guard.clearing(state), pull.using(state.root), _held(state, record, pausing=pausing):
        adopted = _layer(state, record, epoch)
        created = clock.now() if epoch is None else clock.rfc3339(epoch * 1_000_000_000)
        entry: dict[str, Any] = {"created": created, "created_by": _command(state, record), "comment": message, "author": author}
        entry = {key: value for key, value in entry.items() if value} | ({} if adopted else {"empty_layer": True})
        added = (str(adopted.diff_id),) if adopted else ()
        draft = draft._replace(layers=(*draft.layers, *added), history=(*draft.history, entry), author=author or draft.author)
        row = sealing.make(state, drafts.document(draft, created=created), diff_ids=draft.layers, names=names)
        return Committed(row, adopted.left_out if adopted else ())


def with_changes(draft: Draft, changes: Iterable[str]) -> Draft:
    """The draft with further instructions of a Dockerfile, each a text of its own; raises Invalid."""
    for text in changes:
        statements = syntax.parse(text.encode("utf-8", "surrogateescape"), f"--change {text}").statements
        if len(statements) != 1 or statements[0].name not in INSTRUCTIONS:
            raise Invalid(f"--change {text}: it is one of {', '.join(INSTRUCTIONS)}, and its value")
        instruction = reading.read(statements[0], escape="\\")
        draft = drafts.apply(draft, expansion.expand(instruction, draft.environment, escape="\\"))
    return draft


def run_config(changes: Iterable[str]) -> dict[str, Any]:
    """The `config` object of an image's config that such instructions make of nothing."""
    return {key: value for key, value in with_changes(drafts.Draft(), changes).run.items() if value not in (None, "", [], {})}


def _as_run(draft: Draft, record: Record) -> Draft:
    """What the container was run with takes the place of what the image says, as `docker commit` keeps it."""
    spec, run = record.spec, dict(draft.run)
    environment = {**draft.environment, **dict(spec.environment)}
    run["Env"] = [f"{name}={value}" for name, value in environment.items()]
    run["Labels"] = {**(run.get("Labels") or {}), **dict(spec.labels)}
    if spec.entrypoint is not None:
        run["Entrypoint"] = list(spec.entrypoint)
        run.pop("Cmd", None)
    if spec.command is not None:
        run["Cmd"] = list(spec.command)
    for key, value in (("User", spec.user), ("WorkingDir", spec.working_dir), ("StopSignal", spec.stop_signal)):
        if value:
            run[key] = value
    if spec.healthcheck:
        draft = drafts.apply(draft._replace(run=run), instructions.Health(instructions.Place(0, 0, ""), spec.healthcheck))
        run = dict(draft.run)
    ports: dict[str, Any] = {port if "/" in port else f"{port}/tcp": {} for port in spec.expose}
    run["ExposedPorts"] = {**(run.get("ExposedPorts") or {}), **ports}
    return draft._replace(run=run)


def _command(state: State, record: Record) -> str:
    return " ".join(bundle.arguments(record.spec, images.config(state, record.image_id)))


def _layer(state: State, record: Record, epoch: int | None) -> adoption.Adopted | None:
    """A layer of what the container has changed; None where that is nothing."""
    differences = _differences(state, record)
    first = next(differences, None)
    if first is None:
        return None

    def write_to(write: Callable[[bytes], object]) -> Packed:
        return pack.write_archive((each.found for each in _joined(first, differences)), write, epoch=epoch)

    return adoption.adopt_archive(state.root, write_to)


def _joined(first: Difference, rest: Iterator[Difference]) -> Iterator[Difference]:
    yield first
    yield from rest


def _changes(state: State, record: Record) -> tuple[str, tuple[str, ...], str]:
    """The container's upper directory, its image's trees, topmost first, and the tree that it is where it has no upper directory."""
    diff_ids = images.config(state, record.image_id).diff_ids
    found = drivers.changes(state.root, state.root.container(record.id), diff_ids)
    base = found.base or tuple(f"{state.root.path}/{name}" for name in layers.lowerdirs(state.root, diff_ids))
    return found.upper, base, found.tree


def _differences(state: State, record: Record) -> Iterator[Difference]:
    upper, base, tree = _changes(state, record)
    if not os.path.isdir(tree or upper):
        return iter(())  # it has never been started
    stubs = _stubs(state, record)
    return difference.of_tree(tree, base, stubs=stubs) if tree else difference.of_upper(upper, base, stubs=stubs)


def _stubs(state: State, record: Record) -> frozenset[bytes]:
    """Where something is mounted in the container, and every directory above."""
    uses = records.volume_uses(state.records, container=record.id)
    around = bundle.Surroundings(record.id, "", "", sources={use.target: bundle.Source("") for use in uses})
    paths = [mount.destination.strip("/") for mount in bundle.mounts(record.spec, around)]
    parents = (path.split("/") for path in paths)
    return frozenset(os.fsencode("/".join(parts[:count])) for parts in parents for count in range(1, len(parts) + 1))


@contextlib.contextmanager
def _held(state: State, record: Record, *, pausing: bool) -> Iterator[None]:
    """While the container's files are read: one that does not run is not started, one that runs is paused where `pausing` says so.

    Raises Conflict where another process works on it, NotFound at the end where it was removed meanwhile.
    """
    doing = containers.run_of(state, record.id).status
    if doing not in RUNNING:
        lock = locks.try_container(state.root.container(record.id))
        if lock < 0:
            raise Conflict(f"reading the files of container {record.name}: another process is working on it; try again when it is through")
        try:
            yield
        finally:
            os.close(lock)
        return
    paused = pausing and doing == "running"
    if paused:
        pause.pause(state, record)
    try:
        yield
        containers.find(state, record.id)
    finally:
        if paused:
            pause.thaw(state, record)
