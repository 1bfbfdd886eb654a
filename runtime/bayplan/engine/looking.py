"""Looking at what registries have, without taking it: manifests, and lists of tags."""

from __future__ import annotations

from bayplan.engine.pull import host_settings
from bayplan.errors import BayplanError
from bayplan.model.digest import Digest
from bayplan.model.image import INDEX_TYPES, Descriptor, Index, parse_manifest
from bayplan.model.reference import Reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.http import Settings
from bayplan.registry.remote import Remote, ask
from bayplan.store import blobs

if TYPE_CHECKING:
    from collections.abc import Iterator

TAGS_LIMIT = 10_000


class Seen(NamedTuple):
    """A manifest or an index as the registry has it, verified."""

    reference: Reference
    descriptor: Descriptor
    data: bytes


def manifest(reference: Reference, *, settings: Settings | None = None) -> Seen:
    """Fetch a manifest or an index into memory. Raises NotFound, Denied, Unavailable, Invalid."""
    seen, remote = ask(reference, lambda each: _seen(each, reference), settings=settings or host_settings())
    remote.close()
    return seen


def manifests(reference: Reference, *, settings: Settings | None = None) -> tuple[Seen, ...]:
    """The manifest, or every one that an index names."""
    found, remote = ask(reference, lambda each: _manifests(each, reference), settings=settings or host_settings())
    remote.close()
    return found


def _manifests(remote: Remote, reference: Reference) -> tuple[Seen, ...]:
    top = _seen(remote, reference)
    document = parse_manifest(top.data) if top.descriptor.media_type in INDEX_TYPES else None
    if not isinstance(document, Index):
        return (top,)
    return tuple(_seen(remote, reference.with_digest(each.digest), each) for each in document.manifests)


def _seen(remote: Remote, reference: Reference, descriptor: Descriptor | None = None) -> Seen:
    found = remote.manifest(str(reference.digest or reference.tag))
    digest = reference.digest or blobs.digest_of(found.data)
    blobs.verify(found.data, digest, what=f"the manifest of {reference}")
    media_type = found.media_type.partition(";")[0].strip()
    return Seen(reference, descriptor or Descriptor(media_type, digest, len(found.data)), found.data)


def tags(reference: Reference, *, limit: int = TAGS_LIMIT, settings: Settings | None = None) -> tuple[str, ...]:
    """The tags of the reference's repository, at most `limit`, in the registry's order. Raises NotFound, Denied, Unavailable, Invalid."""
    found, remote = ask(reference, lambda each: each.tags(limit=limit), settings=settings or host_settings())
    remote.close()
    return found


def digests(reference: Reference, names: tuple[str, ...], *, settings: Settings | None = None) -> Iterator[tuple[str, Digest | None]]:
    """Each tag's digest, at the cost of one request each; None for one that has gone meanwhile."""
    if not names:
        return
    first = reference._replace(tag=names[0], digest=None)
    _, remote = ask(first, lambda each: None, settings=settings or host_settings())
    try:
        for name in names:
            yield name, _digest(remote, name)
    finally:
        remote.close()


def _digest(remote: Remote, name: str) -> Digest | None:
    """Registries need not give the digest (distribution-spec: SHOULD): then the manifest itself has it."""
    try:
        found = remote.head(name)
        return found.digest or blobs.digest_of(remote.manifest(name).data)
    except BayplanError as error:
        if error.kind == "not_found":
            return None
        raise
