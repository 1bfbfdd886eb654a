"""Where images are copied from and to, what a manifest refers to, and how it reads in another format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.engine.rewriting import in_format
from bayplan.engine.transfer import Document
from bayplan.errors import BayplanError, Invalid
from bayplan.model.digest import Digest
from bayplan.model.formats import rewritten
from bayplan.model.image import DOCKER_INDEX, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest
from bayplan.model.linked import parse_linked
from bayplan.model.location import parse_location
from bayplan.store import blobs

D = f"sha256:{'1' * 64}"
LOCATIONS = {
    "docker://example.com:5000/a/b:1": ("docker", "", "example.com:5000/a/b:1"),
    "docker://nginx": ("docker", "", "nginx"),
    f"docker://a/b@{D}": ("docker", "", f"a/b@{D}"),
    "oci:/srv/layout": ("oci", "/srv/layout", ""),
    "oci:layout:tag": ("oci", "layout", "tag"),
    "oci-archive:/x.tar:a/b:1": ("oci-archive", "/x.tar", "a/b:1"),
    "docker-archive:x.tar": ("docker-archive", "x.tar", ""),
    "docker-archive:x.tar:nginx": ("docker-archive", "x.tar", "nginx:latest"),
    "store:app:1": ("store", "", "app:1"),
}
WRONG = ("", "nginx", "docker:nginx", "docker:/nginx", "docker://", "docker://UPPER", "oci:", "oci::tag", "dir:/x", "containers-storage:x",
         "docker-archive:x:UPPER", "oci:/a\0b", "store:", "oci:" + "x" * 5000)  # fmt: skip


@pytest.mark.parametrize("text", LOCATIONS)
def test_a_location_is_read(text: str) -> None:
    found = parse_location(text)
    assert (found.transport, found.path, found.name) == LOCATIONS[text]
    assert parse_location(str(found)) == found, "what it is shown as reads the same"


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_location_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_location(text)


@given(st.text(max_size=60))
def test_any_text_is_a_location_or_an_error_of_ours(text: str) -> None:
    for prefix in ("", "docker://", "oci:", "oci-archive:", "docker-archive:", "store:"):
        try:
            parse_location(prefix + text)
        except BayplanError:
            continue


def described(kind: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": D, "size": 3, **more}


def document(**more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **more}).encode()


def test_what_no_image_has_goes_along() -> None:
    odd = [described("application/vnd.in-toto+json"), described("application/x", digest=f"sha256:{'2' * 64}")]
    found = parse_linked(document(config=described("application/vnd.oci.empty.v1+json"), layers=odd))
    assert found.media_type == OCI_MANIFEST and len(found.blobs) == 3 and not found.manifests


def test_what_is_fetched_from_elsewhere_does_not() -> None:
    foreign = described("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://example.com/x"])
    assert len(parse_linked(document(config=described(OCI_CONFIG), layers=[foreign])).blobs) == 1


AMBIGUOUS = (
    document(config=described(OCI_CONFIG), layers=[], manifests=[]),
    document(),
    document(mediaType=OCI_INDEX, config=described(OCI_CONFIG), layers=[]),
    document(manifests=[], fsLayers=[]),
    document(manifests=[described(OCI_MANIFEST, digest="sha256:../../x")]),
    document(manifests=[described(OCI_MANIFEST, size=-1)]),
    document(manifests=[described(OCI_MANIFEST)] * 1001),
    b"[]",
    b'{"schemaVersion":1}',
)


@pytest.mark.parametrize("data", AMBIGUOUS)
def test_a_document_that_is_not_clearly_one_thing_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse_linked(data)


def image(compression: str = "+gzip") -> Manifest:
    layer = Descriptor(f"{OCI_LAYER}{compression}", Digest("sha256", "2" * 64), 5)
    return Manifest(OCI_MANIFEST, Descriptor(OCI_CONFIG, Digest("sha256", "1" * 64), 3), (layer,))


def test_a_manifest_in_another_format_and_back_is_itself() -> None:
    for compression in ("", "+gzip"):
        docker = rewritten(image(compression), "docker")
        assert docker.media_type == DOCKER_MANIFEST and "docker" in docker.layers[0].media_type
        assert rewritten(docker, "oci") == image(compression)
    assert rewritten(docker, "docker") is docker, "what is so already is left alone"


def test_what_docker_s_format_has_no_word_for_is_refused() -> None:
    with pytest.raises(Invalid, match="zstd"):
        rewritten(image("+zstd"), "docker")
    with pytest.raises(Invalid):
        rewritten(image(), "other")


def as_document(data: bytes) -> Document:
    linked = parse_linked(data)
    return Document(Descriptor(linked.media_type, blobs.digest_of(data), len(data)), data, linked)


def test_an_index_refers_to_its_rewritten_manifests() -> None:
    config, layer = described(OCI_CONFIG), described(f"{OCI_LAYER}+gzip")
    below = as_document(document(mediaType=OCI_MANIFEST, config=config, layers=[layer]))
    platform = {"os": "linux", "architecture": "arm64", "os.features": ["x"]}
    entry = {"mediaType": OCI_MANIFEST, "digest": str(below.descriptor.digest), "size": len(below.data), "platform": platform}
    top = as_document(document(mediaType=OCI_INDEX, manifests=[entry], annotations={"a": "b"}))
    other, index = in_format((below, top), "docker")
    fields = json.loads(index.data)
    assert fields["mediaType"] == DOCKER_INDEX and fields["annotations"] == {"a": "b"}, "all else stays"
    assert fields["manifests"] == [{**entry, "mediaType": DOCKER_MANIFEST, "digest": str(other.descriptor.digest), "size": len(other.data)}]
    assert in_format((below, top), "oci") == (below, top), "and what is so already is the same bytes"
