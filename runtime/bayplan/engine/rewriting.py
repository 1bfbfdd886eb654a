"""An image's documents in another format: the same blobs, manifests in OCI's or in Docker's words, and so new digests."""

from __future__ import annotations

import json

from bayplan.engine.archives import manifest_document
from bayplan.engine.transfer import Document
from bayplan.model.digest import Digest
from bayplan.model.formats import rewritten
from bayplan.model.image import DOCKER_INDEX, INDEX_TYPES, OCI_INDEX, Descriptor, Manifest, parse_manifest
from bayplan.model.linked import parse_linked
from bayplan.store import blobs


def in_format(documents: tuple[Document, ...], format: str) -> tuple[Document, ...]:
    """The documents rewritten, those aside that are so already. Raises Invalid for what the other format has no words for."""
    changed: dict[Digest, Document] = {}
    for each in documents:
        data = _index(each, changed, format) if each.linked.media_type in INDEX_TYPES else _manifest(each, format)
        changed[each.descriptor.digest] = _document(each, data)
    return tuple(changed.values())


def _document(old: Document, data: bytes) -> Document:
    if data == old.data:
        return old
    linked = parse_linked(data)
    return Document(old.descriptor._replace(media_type=linked.media_type, digest=blobs.digest_of(data), size=len(data)), data, linked)


def _manifest(document: Document, format: str) -> bytes:
    manifest = parse_manifest(document.data, media_type=document.descriptor.media_type)
    assert isinstance(manifest, Manifest)
    other = rewritten(manifest, format)
    return document.data if other is manifest else manifest_document(other)


def _index(document: Document, changed: dict[Digest, Document], format: str) -> bytes:
    """Everything that an entry says stays, but for what it refers to."""
    kind = DOCKER_INDEX if format == "docker" else OCI_INDEX
    below = [changed[each.digest].descriptor for each in document.linked.manifests]
    if document.linked.media_type == kind and [each.digest for each in below] == [each.digest for each in document.linked.manifests]:
        return document.data
    fields = json.loads(document.data)
    entries = [{**entry, **_reference(each)} for entry, each in zip(fields["manifests"], below)]
    return json.dumps({**fields, "mediaType": kind, "manifests": entries}, separators=(",", ":")).encode()


def _reference(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
