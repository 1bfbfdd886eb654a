"""Images of a state: named, shared, removed when nothing uses them. What fetches them is engine/pull.py."""

from __future__ import annotations

import os

from bayplan.engine.state import State
from bayplan.errors import Conflict, Invalid, NotFound
from bayplan.model import jsontext
from bayplan.model.digest import parse_digest
from bayplan.model.image import ImageConfig, parse_image_config
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import records
from bayplan.store.records import ImageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

PULL_POLICIES = ("missing", "always", "never")


class Image(NamedTuple):
    """id is "sha256:…", digest the manifest's or "", names familiar ("busybox:1"), size bytes, created RFC 3339."""

    id: str
    digest: str
    names: tuple[str, ...]
    size: int
    created: str
    config: ImageConfig


def ensure(
    state: State,
    reference: str,
    *,
    pull: str = "missing",
    platform: str = "",
    auth: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> ImageRow:
    """The image that `reference` names, pulled first where the policy says so; `quiet` shows no progress.

    `auth` holds username and password for this call alone. Raises NotFound, Denied, Unavailable, Invalid.
    """
    if pull not in PULL_POLICIES:
        raise Invalid(f"making sure of image {reference}: the pull policy {pull!r} is none of {', '.join(PULL_POLICIES)}")
    there = look_up(state, reference)
    if there and pull != "always" and matches(state, there, platform):
        return there
    if pull == "never":
        raise NotFound(f"making sure of image {reference}: it is not here, and the pull policy is never; pull or load it first")
    return fetch(state, reference, platform=platform, auth=auth, quiet=quiet)


def fetch(state: State, reference: str, *, platform: str = "", auth: Mapping[str, str] | None = None, quiet: bool = False) -> ImageRow:
    """Pull `reference` from its registry and record it under that name."""
    from bayplan.engine import guard, progress, pull

    wanted, report = parse_reference(reference), None if quiet else progress.on_terminal(reference)
    with guard.clearing(state), pull.using(state.root):
        pulled = pull.pull(wanted, root=state.root, platform=platform, auth=auth, report=report)
        progress.end()
        return record(state, pulled, (wanted.canonical,))


def remote_id(reference: str, *, platform: str = "", auth: Mapping[str, str] | None = None) -> str:
    """The id that the registry's image of this name has now; only its manifest and config are fetched, into memory."""
    from bayplan.engine import pull

    return str(pull.resolve(parse_reference(reference), platform=platform, auth=auth).manifest.config.digest)


def record(state: State, pulled: Any, names: tuple[str, ...]) -> ImageRow:
    """Make what was pulled or loaded known, under canonical `names`."""
    row = ImageRow(
        str(pulled.image_id),
        str(pulled.manifest_digest or ""),
        pulled.size,
        pulled.config.created,
        tuple(map(str, pulled.config.diff_ids)),
        tuple(map(str, pulled.blobs)),
    )
    with records.transaction(state.records):
        records.put_image(state.records, row, names)
    return row


def matches(state: State, row: ImageRow, platform: str) -> bool:
    """Whether the image is the one of `platform`; "" is any."""
    if not platform:
        return True
    from bayplan.model.image import parse_platform

    wanted, there = parse_platform(platform), config(state, row.id).platform
    return (wanted.os, wanted.architecture) == (there.os, there.architecture) and wanted.variant in ("", there.variant)


def look_up(state: State, name: str) -> ImageRow | None:
    """By name, by id, or by at least two first digits of the id; raises Invalid where several ids begin so."""
    row = _by_id(state, name)
    if row:
        return row
    reference = parse_reference(name)
    if reference.digest:
        return _by_digest(state, reference.canonical, str(reference.digest))
    return records.image_named(state.records, reference.canonical)


def _by_id(state: State, text: str) -> ImageRow | None:
    digits = text[7:] if text.startswith("sha256:") else text
    if not 2 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
        return None
    found = [row for row in records.images(state.records) if row.id[7:].startswith(digits)]
    if len(found) > 1 and not any(row.id[7:] == digits for row in found):
        named = None if text.startswith("sha256:") else records.image_named(state.records, parse_reference(text).canonical)
        if named:
            return named
        raise Invalid(f"looking up image {text}: {len(found)} images have an id that begins so; give more digits")
    return found[0] if found else None


def _by_digest(state: State, canonical: str, digest: str) -> ImageRow | None:
    for row in records.images(state.records):
        if digest in (row.digest, row.id):
            return row
    return records.image_named(state.records, canonical)


def find(state: State, name: str) -> ImageRow:
    row = look_up(state, name)
    if row is None:
        raise NotFound(f"looking up image {name}: there is none of this name or id; pull or load it first")
    return row


def config(state: State, image_id: str) -> ImageConfig:
    """The image's own config, read from its blob; raises NotFound where the blob is gone."""
    return parse_image_config(config_bytes(state, image_id))


def config_bytes(state: State, image_id: str) -> bytes:
    path = state.root.blob(parse_digest(image_id))
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise NotFound(f"reading the config of image {image_id[7:19]}: {path} is gone; pull the image again") from error


def all_images(state: State) -> tuple[Image, ...]:
    names = records.image_names(state.records)
    return tuple(_view(state, row, names.get(row.id, ())) for row in records.images(state.records))


def view(state: State, row: ImageRow) -> Image:
    return _view(state, row, records.image_names(state.records).get(row.id, ()))


def _view(state: State, row: ImageRow, names: tuple[str, ...]) -> Image:
    familiar = tuple(parse_reference(name).familiar for name in names)
    return Image(row.id, row.digest, familiar, row.size, row.created, config(state, row.id))


def tag(state: State, source: str, target: str) -> None:
    """Give the image `source` the further name `target`, taken from whatever had it. Raises NotFound, Invalid."""
    row, reference = find(state, source), parse_reference(target)
    if reference.digest:
        raise Invalid(f"tagging {target}: a name to give has a tag, not a digest")
    with records.transaction(state.records):
        records.put_image(state.records, row, (reference.canonical,))


def remove(state: State, name: str, *, force: bool = False) -> tuple[str, ...]:
    """Remove a name, and the image with the last one. Returns lines as Docker prints them ("Untagged: …", "Deleted: …").

    By id all names go, which takes `force` where there are several. Raises NotFound, Conflict.
    """
    row = find(state, name)
    names = records.image_names(state.records).get(row.id, ())
    going = names if _by_id(state, name) else (parse_reference(name).canonical,)
    if parse_reference(name).digest and going[0] not in names:
        going = names
    if len(going) > 1 and not force:
        raise Conflict(f"removing image {name}: it has the names {', '.join(going)}; remove them one by one, or force")
    lines = tuple(f"Untagged: {parse_reference(each).familiar}" for each in going)
    if set(going) != set(names):
        with records.transaction(state.records):
            for each in going:
                records.remove_image_name(state.records, each)
        return lines
    return (*lines, *delete(state, row))


def delete(state: State, row: ImageRow) -> tuple[str, ...]:
    """Remove the image and what no other one needs; raises Conflict while a container is made from it."""
    from bayplan.engine import content

    with records.transaction(state.records):
        records.remove_image(state.records, row.id)
    content.release(state, row)
    content.remove_unneeded(state)
    return (f"Deleted: {row.id}",)


def document(state: State, row: ImageRow) -> dict[str, Any]:
    """What `inspect` shows of an image, in Docker's shape."""
    raw = jsontext.loads(config_bytes(state, row.id))
    names = records.image_names(state.records).get(row.id, ())
    repositories = {parse_reference(name).name for name in names}
    return {
        "Id": row.id,
        "RepoTags": [parse_reference(name).familiar for name in names],
        "RepoDigests": [f"{name}@{row.digest}" for name in sorted(repositories) if row.digest],
        "Created": row.created,
        "Author": raw.get("author", ""),
        "Config": raw.get("config") or {},
        "Architecture": raw.get("architecture", ""),
        "Os": raw.get("os", ""),
        "Size": row.size,
        "RootFS": {"Type": "layers", "Layers": list(row.layers)},
    }


def exists_on_disk(state: State, row: ImageRow) -> bool:
    """Whether every layer of the image is unpacked here: what a `have` may claim."""
    return all(os.path.isdir(state.root.layer_tree(parse_digest(layer))) for layer in row.layers)


def load(state: State, source: str) -> tuple[ImageRow, ...]:
    """Take in every image of an archive (docker-archive, oci-archive, OCI layout; "-" is standard input) under the names that
    it gives them, as `docker load` does. Raises what archives.load raises; then no name has moved."""
    from bayplan.engine import archives, guard, pull

    with guard.clearing(state), pull.using(state.root):
        loaded = archives.load(source, root=state.root)
        return tuple(record(state, each, each.names) for each in loaded)


def load_as(state: State, source: str, reference: str) -> ImageRow:
    """Take in the one image that an archive holds, or the one of several that it calls `reference`, under that name alone."""
    from bayplan.engine import archives, guard, pull

    wanted = parse_reference(reference).canonical
    with guard.clearing(state), pull.using(state.root):
        loaded = archives.load(source, root=state.root)
        return record(state, chosen(loaded, wanted, source), (wanted,))


def archive_id(state: State, source: str, reference: str) -> str:
    """The id of the image that load_as would take; nothing is taken in."""
    from bayplan.engine import archives

    found = archives.identify(source, root=state.root)
    wanted = parse_reference(reference).canonical
    named = [str(image_id) for image_id, names in found if wanted in names]
    if len(found) == 1 or len(named) == 1:
        return named[0] if named else str(found[0][0])
    raise Invalid(f"loading {source}: it holds {len(found)} images, and none of them is called {reference}; name one of them")


def chosen(loaded: tuple[Any, ...], wanted: str, source: str) -> Any:
    """The only image of an archive, or the one that has the name."""
    named = [each for each in loaded if wanted in each.names]
    if len(loaded) != 1 and len(named) != 1:
        raise Invalid(f"loading {source}: it holds {len(loaded)} images, and none of them is called {wanted}; name one of them")
    return named[0] if named else loaded[0]


def import_(
    state: State,
    source: str,
    reference: str = "",
    *,
    run: Mapping[str, Any] | None = None,
    comment: str = "",
    platform: str = "",
) -> ImageRow:
    """Make an image of one layer from a root file system's archive ("-" is standard input), named `reference` if given.

    `run` is the `config` object of its config (Cmd, Env and the like), `comment` is for its history; `platform` is what it is for."""
    from bayplan.engine import archives, clock, guard, pull
    from bayplan.model.image import parse_platform

    names = (parse_reference(reference).canonical,) if reference else ()
    wanted = parse_platform(platform) if platform else None
    with guard.clearing(state), pull.using(state.root):
        made = archives.import_rootfs(source, root=state.root, created=clock.now(), run=run, comment=comment, platform=wanted)
        return record(state, made, names)


def save(state: State, names: tuple[str, ...], path: str, format: str = "docker-archive", *, platform: str = "") -> None:
    """Write images with the names given here as one archive to `path`, "-" for standard output. A failure leaves no file.

    Raises NotFound where an image is not there, or not for `platform`."""
    from bayplan.engine import archives

    for name in names:
        if not matches(state, find(state, name), platform):
            raise NotFound(f"saving image {name}: it is not for {platform}; pull that one first")
    wanted = tuple(_saved(state, name) for name in names)
    write_to(path, lambda write: archives.save(wanted, write, root=state.root, format=format))


def write_to(path: str, produce: Callable[[Callable[[bytes], object]], object]) -> None:
    """Give `produce` something to write to: the file `path`, "-" is standard output. A failure leaves no file."""
    if path == "-":
        produce(lambda data: _write_all(1, data))
        return
    part = f"{path}.{os.urandom(4).hex()}.part"  # not to be foreseen, and made anew: no link waits there
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        produce(lambda data: _write_all(fd, data))
        os.rename(part, path)
    except BaseException:
        os.unlink(part)
        raise
    finally:
        os.close(fd)


def _saved(state: State, name: str) -> Any:
    from bayplan.engine import sealing
    from bayplan.engine.archives import Saved

    found = sealing.sealed(state, find(state, name))
    return Saved(found.descriptor, found.manifest, names_saved(state, name))


def names_saved(state: State, name: str) -> tuple[str, ...]:
    """What an archive calls the image that is saved as `name`: nothing where that is its id."""
    return () if _by_id(state, name) else (parse_reference(name).canonical,)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
