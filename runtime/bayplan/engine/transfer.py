"""Images go from one place to another, byte for byte: what each kind of place has to do is a Source and a Target.

First the documents are gathered (an index, its manifests), then their blobs go over, several at once, then the documents, the one
that is named last: so whoever finds a name finds all that is below it. What the target has is not sent again.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Protocol

from bayplan.errors import Invalid, Unavailable
from bayplan.model.image import (
    CONFIG_LIMIT,
    INDEX_TYPES,
    Descriptor,
    Index,
    choose_platform,
    machine_platform,
    parse_image_config,
    parse_manifest,
    parse_platform,
)
from bayplan.model.linked import Linked, parse_linked
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.protocol_push import Content, Outcome
from bayplan.store import blobs, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

AT_ONCE = 4
_DEPTH = 3
_DOCUMENTS_LIMIT = 2000

Piece: TypeAlias = "bytes | memoryview"
Tell: TypeAlias = "Callable[[Descriptor, Outcome], object]"
Read: TypeAlias = "Callable[[Descriptor], bytes]"


class Document(NamedTuple):
    """A manifest or an index, verified, and what it refers to."""

    descriptor: Descriptor
    data: bytes
    linked: Linked


class Source(Protocol):
    """Where an image comes from. What it gives is verified by the caller."""

    def top(self) -> tuple[bytes, str]:
        """The document that the image's name stands for, and its media type, "" where nobody says."""

    def document(self, descriptor: Descriptor) -> bytes: ...

    def pieces(self, descriptor: Descriptor, start: int, end: int) -> Iterable[Piece]:
        """A blob's bytes from `start` to `end`, each piece valid until the next one. May be asked in a fork."""

    def close(self) -> None: ...


class Target(Protocol):
    """Where an image goes. `parallel`: `take` may be called in forks, several at once."""

    parallel: bool

    def begin(self, documents: tuple[Document, ...], read: Read) -> None:
        """Be told what will come, the named document last; `read` gives a small blob, verified."""

    def has(self, document: Document) -> bool:
        """Whether this manifest is there, with all of its blobs."""

    def take(self, descriptor: Descriptor, content: Content) -> Outcome: ...

    def finish(self, documents: tuple[Document, ...]) -> None:
        """Take the documents, whose blobs are all there, and give the last one its name."""

    def close(self) -> None: ...


def transfer(source: Source, target: Target, *, platform: str = "", every: bool = False, format: str = "", tell: Tell) -> Document:
    """Copy an image; returns the document that is named now.

    Of an index only the manifest of `platform` ("" is this machine's) goes, or with `every` all that is in it. In another `format`
    (docker, oci; "" is as it came) the digests are new. `tell` is called for each blob, perhaps in a fork. Raises NotFound, Denied,
    Invalid, Unavailable, Kernel; then nothing has the name that did not have it.
    """
    documents = gather(source, platform=platform, every=every)
    if format:
        from bayplan.engine.rewriting import in_format

        documents = in_format(documents, format)
    target.begin(documents, partial(read_small, source))
    wanted: dict[str, Descriptor] = {}
    for document in documents:
        if not document.linked.manifests and target.has(document):
            for each in document.linked.blobs:
                tell(each, Outcome("exists"))
            continue
        wanted.update({str(each.digest): each for each in document.linked.blobs})
    jobs = [partial(_take, source, target, each, tell) for each in wanted.values()]
    if target.parallel and len(jobs) > 1:
        sizes = [each.size for each in wanted.values()]
        order = sorted(range(len(jobs)), key=lambda position: -sizes[position])
        workers.run([jobs[position] for position in order], at_once=AT_ONCE)
    else:
        for job in jobs:
            job(lambda _: None)
    target.finish(documents)
    return documents[-1]


def _take(source: Source, target: Target, descriptor: Descriptor, tell: Tell, advance: workers.Advance) -> None:
    tell(descriptor, target.take(descriptor, verified(source, descriptor)))


def verified(source: Source, descriptor: Descriptor) -> Content:
    """A blob to be sent, whose last piece is given only when size and digest of the whole are what they have to be."""
    check = blobs.Check(descriptor.digest, size=descriptor.size)

    def pieces(start: int, end: int) -> Iterator[Piece]:
        at = start
        if start > check.seen:
            raise Unavailable(f"sending {descriptor.digest}: the other side claims to have {start} bytes, and got {check.seen}")
        for piece in source.pieces(descriptor, start, end):
            fresh = piece[max(0, check.seen - at) :]
            at += len(piece)
            if fresh:
                check.take(fresh)
                if check.seen == descriptor.size:
                    check.finish()
            yield piece

    return Content(descriptor.digest, descriptor.size, pieces)


def gather(source: Source, *, platform: str, every: bool) -> tuple[Document, ...]:
    """All documents that go over, each after those that it refers to."""
    data, media_type = source.top()
    top = _document(data, media_type)
    if top.linked.media_type in INDEX_TYPES and not every:
        chosen = _chosen(data, media_type, platform)
        top = _below(source, chosen)
        if top.linked.media_type in INDEX_TYPES:
            raise Invalid(f"copying {chosen.digest}: an index within an index; copy it with --all")
    elif platform and not every:
        _check_platform(source, top, platform)
    found: dict[str, Document] = {}
    _collect(source, top, found, depth=0)
    return tuple(found.values())


def _collect(source: Source, document: Document, found: dict[str, Document], *, depth: int) -> None:
    if depth > _DEPTH or len(found) > _DOCUMENTS_LIMIT:
        raise Invalid(f"copying an index: its documents are over {_DEPTH} levels deep, or over {_DOCUMENTS_LIMIT}")
    for each in document.linked.manifests:
        if str(each.digest) not in found:
            _collect(source, _below(source, each), found, depth=depth + 1)
    found[str(document.descriptor.digest)] = document


def _document(data: bytes, media_type: str) -> Document:
    linked = parse_linked(data, media_type=media_type)
    return Document(Descriptor(linked.media_type, blobs.digest_of(data), len(data)), data, linked)


def _below(source: Source, descriptor: Descriptor) -> Document:
    data = source.document(descriptor)
    if len(data) != descriptor.size:
        raise Invalid(f"copying the manifest {descriptor.digest}: it has {len(data)} bytes, its descriptor says {descriptor.size}")
    blobs.verify(data, descriptor.digest, what="a manifest of the index")
    return Document(descriptor, data, parse_linked(data, media_type=descriptor.media_type))


def _chosen(data: bytes, media_type: str, platform: str) -> Descriptor:
    index = parse_manifest(data, media_type=media_type)
    assert isinstance(index, Index)
    return choose_platform(index, parse_platform(platform) if platform else machine_platform(os.uname().machine))


def _check_platform(source: Source, top: Document, platform: str) -> None:
    """Without an index there is nothing to choose from, and the one that is there may be another's."""
    wanted, there = parse_platform(platform), parse_image_config(read_small(source, top.linked.blobs[0])).platform
    if (there.os, there.architecture) != (wanted.os, wanted.architecture):
        raise Invalid(f"copying {top.descriptor.digest}: the image is only there for {there}, not for {wanted}")


def read_small(source: Source, descriptor: Descriptor) -> bytes:
    """A config, verified."""
    if descriptor.size > CONFIG_LIMIT:
        raise Invalid(f"reading {descriptor.digest}: it has {descriptor.size} bytes, over the limit of {CONFIG_LIMIT}")
    data = b"".join(bytes(piece) for piece in verified(source, descriptor).pieces(0, descriptor.size))
    return blobs.verify(data, descriptor.digest, what="the config")
