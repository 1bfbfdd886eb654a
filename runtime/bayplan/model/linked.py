"""What a manifest or an index refers to, whatever kind of artifact it is: all that has to go along where it goes.

Source: OCI image-spec 1.1 (manifest.md, image-index.md), "Guidelines for Artifact Usage". What is only moved is not interpreted:
an attestation or a signature has layers that no image has, and is copied as it is. The bounds are the same as for images.
"""

from __future__ import annotations

from bayplan.model.document import load_object
from bayplan.model.image import MANIFEST_LIMIT, Descriptor, check_kind, parse_descriptor
from bayplan.model.value import NamedTuple

_LIMIT = 1000


class Linked(NamedTuple):
    """`manifests` are an index's; `blobs` a manifest's config and layers, those aside that are fetched from their own URLs."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]


def parse_linked(data: bytes, *, media_type: str = "") -> Linked:
    """Read a manifest or an index of any artifact; `media_type` is what it was sent as, "" where nobody said.

    A document that could be read as both, or that contradicts its media type, is refused (CVE-2021-41190).
    """
    fields = load_object(data, MANIFEST_LIMIT, "a manifest")
    said, is_index = check_kind(fields, media_type)
    if is_index:
        manifests = tuple(parse_descriptor(each) for each in fields.objects("manifests", limit=_LIMIT))
        return Linked(said, manifests, ())
    every = (parse_descriptor(fields.member("config")), *(parse_descriptor(each) for each in fields.objects("layers", limit=_LIMIT)))
    return Linked(said, (), tuple(each for each in every if not each.urls))
