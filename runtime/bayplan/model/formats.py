"""The two ways to write the same manifest down: OCI's and Docker's media types. The blobs are the same, the digest is not."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    LAYER_TYPES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)

FORMATS = ("docker", "oci")


def rewritten(manifest: Manifest, format: str) -> Manifest:
    """The manifest in the words of `format`; one that is so already is returned itself. Raises Invalid for what has no word there."""
    if format not in FORMATS:
        raise Invalid(f"writing a manifest: the format {format!r} is neither docker nor oci")
    kind, config = (DOCKER_MANIFEST, DOCKER_CONFIG) if format == "docker" else (OCI_MANIFEST, OCI_CONFIG)
    if manifest.media_type == kind:
        return manifest
    layers = tuple(each._replace(media_type=_layer_type(each, format)) for each in manifest.layers)
    return manifest._replace(media_type=kind, config=manifest.config._replace(media_type=config), layers=layers)


def _layer_type(layer: Descriptor, format: str) -> str:
    if layer.urls:
        raise Invalid(f"writing a manifest: the layer {layer.digest.short} is to be fetched from elsewhere, which is not rewritten")
    compression = LAYER_TYPES[layer.media_type]
    if format == "oci":
        return f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER
    if compression == "zstd":
        raise Invalid(f"writing a manifest: Docker's format has no layers of zstd, and {layer.digest.short} is one; keep it in OCI's")
    return f"{DOCKER_LAYER}.{compression}" if compression else DOCKER_LAYER
