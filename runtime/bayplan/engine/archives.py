"""Images come from archives and go into them: docker-archive, oci-archive, OCI layouts, root file systems.

Sources: OCI image-spec 1.1 image-layout.md; Docker's `manifest.json`, as docker-save(1) and docker-load(1) have it.
An archive's names for its images are only returned: what to call them is the caller's decision.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from functools import partial

from bayplan.engine.pull import Pulled, Resolved, check_image, keep
from bayplan.errors import Invalid
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.document import Fields, load_json, load_object
from bayplan.model.image import (
    CONFIG_LIMIT,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    Platform,
    choose_platform,
    machine_platform,
    parse_image_config,
    parse_manifest,
)
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import archive, blobs, codecs, room, staging, tar, workers
from bayplan.store.archive import Members
from bayplan.store.ingest import ingest, is_complete
from bayplan.store.records import ImageRow
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

AT_ONCE = 4
_IMAGES_LIMIT = 1000
_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_CHUNK = 1 << 20


class Held(NamedTuple):
    """One image in an archive: its documents, verified, where each layer's bytes are, and its canonical names."""

    resolved: Resolved
    sources: tuple[str, ...]
    names: tuple[str, ...]


class Saved(NamedTuple):
    """An image to be saved, every blob of which is in the store (engine/sealing.py), and the canonical names that the archive gives it."""

    descriptor: Descriptor
    manifest: Manifest
    names: tuple[str, ...]


def identify(source: str, *, root: StateRoot) -> tuple[tuple[Digest, tuple[str, ...]], ...]:
    """The ids and names of the images in an archive, without taking it in. Raises NotFound, Invalid.

    Nothing is written for a plain file or a directory; a compressed one is unpacked to the state's staging meanwhile.
    """
    with _opened(source, root) as members:
        return tuple((each.resolved.manifest.config.digest, each.names) for each in _held(members))


def load(source: str, *, root: StateRoot) -> tuple[Pulled, ...]:
    """Take in every image of an archive: a file, compressed or not, an OCI layout's directory, or standard input ("-").

    Every digest is verified. Raises NotFound, Invalid, Unavailable (no decompressor), Kernel; whole layers that came
    before stay. Nothing is recorded, and `names` says what the archive calls each image.
    """
    root.create()
    staging.sweep(root)
    with _opened(source, root) as members:
        return tuple(_take_in(root, members, each) for each in _held(members))


@contextlib.contextmanager
def _opened(source: str, root: StateRoot) -> Iterator[Members]:
    with contextlib.ExitStack() as stack:
        members = archive.open_members(source, spool=partial(_spool, stack, root))
        try:
            yield members
        finally:
            members.close()


def _spool(stack: contextlib.ExitStack, root: StateRoot) -> int:
    """An empty file that goes when the stack does."""
    root.create()
    directory = stack.enter_context(staging.claimed(root, f"spool-{os.getpid()}-{os.urandom(4).hex()}"))
    return os.open(f"{directory}/spool", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _take_in(root: StateRoot, members: Members, held: Held) -> Pulled:
    manifest, config = held.resolved.manifest, held.resolved.config
    triples = {diff_id: (each, name) for diff_id, each, name in zip(config.diff_ids, manifest.layers, held.sources)}
    missing = [(diff_id, *pair) for diff_id, pair in triples.items() if not is_complete(root, pair[0], diff_id)]
    room.check(root.path, "loading an image", need=2 * sum(each.size for _, each, _ in missing))  # the blob, and no less unpacked
    jobs = [partial(_take_layer, root, members, each, diff_id, name) for diff_id, each, name in missing]
    workers.run(jobs, at_once=AT_ONCE)
    return keep(root, held.resolved, names=held.names)


def _take_layer(root: StateRoot, members: Members, descriptor: Descriptor, diff_id: Digest, name: str, advance: workers.Advance) -> None:
    ingest(root, descriptor, diff_id, source=lambda: members.chunks(name))


def _held(members: Members) -> tuple[Held, ...]:
    """What is in an archive; raises Invalid where it is none of the kinds that are read here."""
    if members.size("index.json") is not None:
        return tuple(_oci_images(members))
    if members.size("manifest.json") is not None:
        return tuple(docker_image(members, each) for each in docker_entries(members))
    raise Invalid(
        "reading the archive: it has neither index.json (OCI layout) nor manifest.json (docker save); "
        "if it is a root file system, use import"
    )


def _oci_images(members: Members) -> Iterator[Held]:
    layout = load_object(archive.read(members, "oci-layout", limit=4096), 4096, "oci-layout")
    if not layout.string("imageLayoutVersion").startswith("1."):
        raise Invalid("reading the OCI layout: its version is not 1.x")
    index = parse_manifest(archive.read(members, "index.json", limit=MANIFEST_LIMIT), media_type=OCI_INDEX)
    if not isinstance(index, Index) or len(index.manifests) > _IMAGES_LIMIT:
        raise Invalid(f"reading the OCI layout: index.json is no index of at most {_IMAGES_LIMIT} images")
    named = _docker_names(members)
    found: dict[Digest, Held] = {}
    for each in index.manifests:
        if each.platform is not None and each.platform.os == "unknown":
            continue  # an attestation
        held = _oci_image(members, each, named)
        there = found.get(each.digest)
        found[each.digest] = held._replace(names=tuple(dict.fromkeys((*there.names, *held.names)))) if there else held
    yield from found.values()


def _oci_image(members: Members, top: Descriptor, named: Mapping[Digest, tuple[str, ...]]) -> Held:
    documents = []
    document: Manifest | Index | None = None
    descriptor = top
    for _ in range(2):
        data = _member_blob(members, descriptor, MANIFEST_LIMIT)
        documents.append((descriptor.digest, data))
        document = parse_manifest(data, media_type=descriptor.media_type)
        if isinstance(document, Manifest):
            break
        descriptor = choose_platform(document, machine_platform(os.uname().machine))
    if not isinstance(document, Manifest):
        raise Invalid("reading the OCI layout: an index within an index")
    config_bytes = _member_blob(members, document.config, CONFIG_LIMIT)
    documents.append((document.config.digest, config_bytes))
    config = parse_image_config(config_bytes)
    check_image(document, config, "an image of the archive")
    resolved = Resolved(None, top.digest, document, config, config_bytes, tuple(documents))
    sources = tuple(blob_name(layer.digest) for layer in document.layers)
    annotations = dict(top.annotations)
    names = [annotations.get(_CONTAINERD_NAME, ""), _full(annotations.get(_REF_NAME, "")), *named.get(document.config.digest, ())]
    return Held(resolved, sources, _canonical(name for name in names if name))


def _full(ref_name: str) -> str:
    """The annotation may be just a tag (image-spec leaves it open), and a tag alone names nothing."""
    return ref_name if "/" in ref_name or ":" in ref_name else ""


def _member_blob(members: Members, descriptor: Descriptor, limit: int) -> bytes:
    data = archive.read(members, blob_name(descriptor.digest), limit=limit)
    if len(data) != descriptor.size:
        raise Invalid(f"reading the archive: {descriptor.digest} has {len(data)} bytes, its descriptor says {descriptor.size}")
    return blobs.verify(data, descriptor.digest, what="a blob of the archive")


def blob_name(digest: Digest) -> str:
    """Where a layout has a blob (image-spec image-layout.md, "Blobs")."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def docker_entries(members: Members) -> list[Fields]:
    """The images that manifest.json names; raises Invalid."""
    document = load_json(archive.read(members, "manifest.json", limit=MANIFEST_LIMIT), MANIFEST_LIMIT, "manifest.json")
    if not isinstance(document, list) or len(document) > _IMAGES_LIMIT or not all(isinstance(each, dict) for each in document):
        raise Invalid(f"reading manifest.json: it is no list of at most {_IMAGES_LIMIT} images")
    return [Fields("manifest.json", each) for each in document]


def _docker_names(members: Members) -> Mapping[Digest, tuple[str, ...]]:
    """Docker 25 and later write both formats into one archive; the names are then here."""
    if members.size("manifest.json") is None:
        return {}
    found = {}
    for each in docker_entries(members):
        data = archive.read(members, each.string("Config"), limit=CONFIG_LIMIT)
        found[blobs.digest_of(data)] = each.strings("RepoTags") or ()
    return found


def docker_image(members: Members, entry: Fields) -> Held:
    """One image of manifest.json, with a manifest that is made for it: the format has none. Raises Invalid, NotFound."""
    config_bytes = archive.read(members, entry.string("Config"), limit=CONFIG_LIMIT)
    config, image_id = parse_image_config(config_bytes), blobs.digest_of(config_bytes)
    claimed = entry.string("Config").rpartition("/")[2].partition(".")[0]
    if len(claimed) == 64 and claimed != image_id.hex:
        raise Invalid(f"reading the archive: the config that is called {claimed} has the digest {image_id}")
    sources = entry.strings("Layers") or ()
    if len(sources) != len(config.diff_ids):
        raise Invalid(f"reading manifest.json: it has {len(sources)} layers, and the config names {len(config.diff_ids)}")
    layers = tuple(_describe(members, name, diff_id) for name, diff_id in zip(sources, config.diff_ids))
    manifest = Manifest(DOCKER_MANIFEST, Descriptor(DOCKER_CONFIG, image_id, len(config_bytes)), layers)
    check_image(manifest, config, "an image of the archive")
    data = manifest_document(manifest)
    documents = ((blobs.digest_of(data), data), (image_id, config_bytes))
    resolved = Resolved(None, documents[0][0], manifest, config, config_bytes, documents)
    return Held(resolved, sources, _canonical(entry.strings("RepoTags") or ()))


def _describe(members: Members, name: str, diff_id: Digest) -> Descriptor:
    """A layer's descriptor, which a docker-archive does not have. A plain one's digest is its diff_id, verified later."""
    head = next(iter(members.chunks(name)), b"")
    packed = codecs.compression(head)
    size = members.size(name) or 0
    if not packed:
        return Descriptor(DOCKER_LAYER, diff_id, size)
    return Descriptor(f"{DOCKER_LAYER}.{packed}", _hashed(members.chunks(name)), size)


def _hashed(chunks: Iterable[bytes]) -> Digest:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return Digest("sha256", found.hexdigest())


def _canonical(names: Iterable[str]) -> tuple[str, ...]:
    references = (parse_reference(name) for name in names if name != "<none>:<none>")
    return tuple(dict.fromkeys(each.canonical for each in references if each.tag))


def manifest_document(manifest: Manifest) -> bytes:
    """A manifest as bytes, the same for equal ones."""
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": _descriptor_document(manifest.config),
        "layers": [_descriptor_document(each) for each in manifest.layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor_document(descriptor: Descriptor, **more: object) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size, **more}


def import_rootfs(
    source: str,
    *,
    root: StateRoot,
    created: str = "",
    run: Mapping[str, Any] | None = None,
    comment: str = "",
    platform: Platform | None = None,
) -> Pulled:
    """Make an image of one layer from a root file system's archive: a file, compressed or not, or "-".

    `created` is RFC 3339 or ""; `run` is the config's `config` object (Cmd, Env, ...); `comment` is for its history, `platform` is this
    machine's where it is None. The same content and values give the same image. Raises NotFound, Invalid, Unavailable, Kernel.
    """
    root.create()
    staging.sweep(root)
    with contextlib.ExitStack() as stack:
        file = archive.seekable(source, spool=partial(_spool, stack, root), packed=True)
        stack.callback(os.close, file)
        head = os.pread(file, 16, 0)
        packed = codecs.compression(head)
        digest = _hashed(_whole(file))
        diff_id = _hashed(codecs.decoder(packed)(_whole(file))) if packed else digest
        layer = Descriptor(f"{DOCKER_LAYER}.{packed}" if packed else DOCKER_LAYER, digest, os.fstat(file).st_size)
        entry = {"created_by": "import", **({"created": created} if created else {}), **({"comment": comment} if comment else {})}
        resolved = _single(layer, diff_id, entry, run or {}, platform or machine_platform(os.uname().machine))
        ingest(root, layer, diff_id, source=lambda: _whole(file))
        return keep(root, resolved)


def _whole(file: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(file, _CHUNK, at):
        at += len(chunk)
        yield chunk


def _single(layer: Descriptor, diff_id: Digest, entry: Mapping[str, str], run: Mapping[str, Any], platform: Platform) -> Resolved:
    """An image of one layer; `entry` is its history."""
    document: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os, "config": dict(run)}
    if platform.variant:
        document["variant"] = platform.variant
    if "created" in entry:
        document["created"] = entry["created"]
    document["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id)]}
    document["history"] = [dict(entry)]
    config_bytes = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    image_id = blobs.digest_of(config_bytes)
    manifest = Manifest(DOCKER_MANIFEST, Descriptor(DOCKER_CONFIG, image_id, len(config_bytes)), (layer,))
    data = manifest_document(manifest)
    documents = ((blobs.digest_of(data), data), (image_id, config_bytes))
    return Resolved(None, documents[0][0], manifest, parse_image_config(config_bytes), config_bytes, documents)


def save(images: Sequence[Saved], write: Callable[[bytes], object], *, root: StateRoot, format: str = "docker-archive") -> None:
    """Write images as one archive, `docker-archive` or `oci-archive`, with manifests and layers exactly as they came.

    Both are OCI layouts; the first has `manifest.json` too, which docker load and everything else reads. Raises
    NotFound where a blob is gone, Invalid for another format, and what `write` raises.
    """
    if format not in ("docker-archive", "oci-archive"):
        raise Invalid(f"saving an archive: the format {format!r} is neither docker-archive nor oci-archive")
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = [index_entry(each.descriptor, each.names) for each in images]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one for several in entries for one in several]}
    files["index.json"] = json.dumps(index, separators=(",", ":")).encode()
    if format == "docker-archive":
        files["manifest.json"] = json.dumps([_docker_entry(each) for each in images]).encode()
    for name, data in files.items():
        write(tar.header(name, len(data)) + data + bytes(tar.padding(len(data))))
    needed = [(each.descriptor.digest, each.manifest.config.digest, *(layer.digest for layer in each.manifest.layers)) for each in images]
    for digest in dict.fromkeys(digest for several in needed for digest in several):
        _write_blob(root, digest, write)
    write(tar.end())


def find_manifest(root: StateRoot, row: ImageRow) -> tuple[Descriptor, Manifest] | None:
    """The manifest that the image came with: the one of its blobs that names its config. None where it was made here."""
    return next((found for found in manifests(root, row) if str(found[1].config.digest) == row.id), None)


def manifests(root: StateRoot, row: ImageRow) -> Iterator[tuple[Descriptor, Manifest]]:
    """Every manifest among the image's blobs: its own, and those that its layers came with."""
    for digest in map(parse_digest, row.blobs):
        if not _may_be_document(root, digest):
            continue
        data = blobs.read(root, digest, limit=MANIFEST_LIMIT)
        with contextlib.suppress(Invalid):
            manifest = parse_manifest(data)
            if isinstance(manifest, Manifest):
                yield Descriptor(manifest.media_type, digest, len(data)), manifest


def _may_be_document(root: StateRoot, digest: Digest) -> bool:
    """Whether a blob is small enough for a manifest, and begins like one: most are layers."""
    if not blobs.exists(root, digest) or blobs.size(root, digest) > MANIFEST_LIMIT:
        return False
    file = blobs.open_blob(root, digest)
    try:
        return os.read(file, 64).lstrip()[:1] == b"{"
    finally:
        os.close(file)


def index_entry(descriptor: Descriptor, names: tuple[str, ...]) -> list[dict[str, object]]:
    """An index's entries for a manifest: one for each of its canonical names (containerd's way), or one without."""
    assert descriptor.media_type in MANIFEST_TYPES
    if not names:
        return [_descriptor_document(descriptor)]
    return [
        _descriptor_document(descriptor, annotations={_CONTAINERD_NAME: name, _REF_NAME: parse_reference(name).familiar}) for name in names
    ]


def _docker_entry(image: Saved) -> dict[str, object]:
    return {
        "Config": blob_name(image.manifest.config.digest),
        "RepoTags": [parse_reference(name).familiar for name in image.names] or None,
        "Layers": [blob_name(each.digest) for each in image.manifest.layers],
    }


def _write_blob(root: StateRoot, digest: Digest, write: Callable[[bytes], object]) -> None:
    file = blobs.open_blob(root, digest)
    try:
        size = os.fstat(file).st_size
        write(tar.header(blob_name(digest), size))
        while chunk := os.read(file, _CHUNK):
            write(chunk)
        write(bytes(tar.padding(size)))
    finally:
        os.close(file)
