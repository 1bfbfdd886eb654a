"""What an image is made of: descriptors, manifests, indexes and configs, in OCI's and in Docker's words.

Sources: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md) and Docker's image manifest
version 2, schema 2. Everything here comes from registries and archives, so it is hostile: a `parse_*` returns a valid value or
raises Invalid, with bounds on every size and count.
"""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.container import Healthcheck, Pairs
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.document import Fields, load_object
from bayplan.model.value import NamedTuple

MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 16 << 20
LAYERS_LIMIT = 500  # as many as overlayfs stacks (OVL_MAX_STACK in fs/overlayfs/params.h)
VOLUMES_LIMIT = 200  # each is a directory, a record and a mount for every container
SIZE_LIMIT = 1 << 40

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)

# Compression by media type; "" is a plain tar. The bytes themselves decide in the end (store/codecs.py).
LAYER_TYPES = {
    OCI_LAYER: "",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    DOCKER_LAYER: "",
    f"{DOCKER_LAYER}.gzip": "gzip",
    f"{DOCKER_LAYER}.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}


class Platform(NamedTuple):
    """GOOS and GOARCH and the architecture's variant: linux/arm64/v8."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


class Descriptor(NamedTuple):
    """What something is, its digest and its size in bytes; platform only in an index, urls only for foreign layers."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    annotations: Pairs = ()


class Manifest(NamedTuple):
    """One image for one platform: its config and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Pairs = ()


class Index(NamedTuple):
    """The same image for several platforms."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Pairs = ()


class HistoryEntry(NamedTuple):
    created: str = ""
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False


class ImageConfig(NamedTuple):
    """The image's config: what it says about itself, literally; nothing in it is interpreted here.

    entrypoint, cmd and shell are None where the document has none, which is not the same as (). volumes and
    exposed_ports are sorted; ports read `80/tcp`.
    """

    platform: Platform
    diff_ids: tuple[Digest, ...]
    created: str = ""
    author: str = ""
    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Pairs = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()


def parse_manifest(data: bytes, *, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index; `media_type` is what the registry called it, "" where nobody said.

    A document that could be read as both, or that contradicts its media type, is refused (CVE-2021-41190).
    """
    fields = load_object(data, MANIFEST_LIMIT, "a manifest")
    said, is_index = check_kind(fields, media_type)
    return _index(fields, said) if is_index else _manifest(fields, said)


def check_kind(fields: Fields, media_type: str) -> tuple[str, bool]:
    """The media type of a manifest or an index, and whether it is an index; raises Invalid where that is not clear."""
    if fields.integer("schemaVersion") != 2:
        raise Invalid(
            "reading a manifest: it is not of schema version 2 (1 is obsolete: push the image again with a current tool)"
        )
    said = _agreed_type(fields.string("mediaType"), media_type)
    has_image, has_index = "config" in fields.values or "layers" in fields.values, "manifests" in fields.values
    if has_image == has_index or "fsLayers" in fields.values:
        raise Invalid(
            "reading a manifest: it is not clearly either a manifest (config, layers) or an index (manifests)"
        )
    if said and (said in INDEX_TYPES) != has_index:
        raise Invalid(f"reading a manifest: its content contradicts its media type {said!r}")
    return said or (OCI_INDEX if has_index else OCI_MANIFEST), has_index


def _agreed_type(inside: str, outside: str) -> str:
    outside = outside.partition(";")[0].strip()
    known = MANIFEST_TYPES + INDEX_TYPES
    if inside and outside in known and inside != outside:
        raise Invalid(f"reading a manifest: it calls itself {inside!r}, and was sent as {outside!r}")
    said = inside or (outside if outside in known else "")
    if said and said not in known:
        raise Invalid(
            f"reading a manifest: the media type {said[:100]!r} is neither of OCI image-spec 1.1 nor of Docker schema 2"
        )
    return said


def _manifest(fields: Fields, media_type: str) -> Manifest:
    _check_count(fields.values.get("layers"))
    layers = tuple(parse_descriptor(each) for each in fields.objects("layers", limit=LAYERS_LIMIT))
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            raise Invalid(f"reading a manifest: {layer.media_type[:100]!r} is not a layer of a container image")
    config = parse_descriptor(fields.member("config"))
    if config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise Invalid(f"reading a manifest: {config.media_type[:100]!r} is not the config of a container image")
    if config.size > CONFIG_LIMIT:
        raise Invalid(f"reading a manifest: its config has {config.size} bytes, over the limit of {CONFIG_LIMIT}")
    return Manifest(media_type, config, layers, fields.pairs("annotations"))


def _check_count(layers: object) -> None:
    if isinstance(layers, list) and len(layers) > LAYERS_LIMIT:
        raise Invalid(
            f"reading an image: it has {len(layers)} layers, and the kernel stacks {LAYERS_LIMIT} at most;"
            " have it made with fewer, where it can be run: bayplan image flatten"
        )


def _index(fields: Fields, media_type: str) -> Index:
    manifests = tuple(parse_descriptor(each) for each in fields.objects("manifests", limit=1000))
    return Index(media_type, manifests, fields.pairs("annotations"))


def parse_descriptor(fields: Fields) -> Descriptor:
    """Read a descriptor (OCI image-spec descriptor.md); raises Invalid."""
    size = fields.integer("size", default=-1)
    if not 0 <= size <= SIZE_LIMIT:
        raise Invalid(f"reading {fields.what}: a descriptor's size is not from 0 to {SIZE_LIMIT} bytes")
    platform = _platform(fields.member("platform")) if fields.values.get("platform") is not None else None
    digest = parse_digest(fields.string("digest"))
    return Descriptor(
        fields.string("mediaType"), digest, size, platform, fields.strings("urls") or (), fields.pairs("annotations")
    )


def _platform(fields: Fields) -> Platform:
    return Platform(fields.string("os"), fields.string("architecture"), fields.string("variant"))


def parse_image_config(data: bytes) -> ImageConfig:
    """Read an image's config (OCI config.md; Docker's is the same with more); raises Invalid."""
    fields = load_object(data, CONFIG_LIMIT, "an image's config")
    rootfs = fields.member("rootfs")
    if rootfs.string("type") != "layers":
        raise Invalid("reading an image's config: rootfs.type is not `layers`")
    _check_count(rootfs.values.get("diff_ids"))
    diff_ids = tuple(parse_digest(each) for each in rootfs.strings("diff_ids", limit=LAYERS_LIMIT) or ())
    run = fields.member("config")
    return ImageConfig(
        platform=_platform(fields),
        diff_ids=diff_ids,
        created=fields.string("created"),
        author=fields.string("author"),
        user=run.string("User"),
        env=run.strings("Env") or (),
        entrypoint=run.strings("Entrypoint"),
        cmd=run.strings("Cmd"),
        working_dir=run.string("WorkingDir"),
        volumes=run.keys("Volumes", limit=VOLUMES_LIMIT),
        exposed_ports=run.keys("ExposedPorts"),
        labels=run.pairs("Labels"),
        stop_signal=run.string("StopSignal"),
        healthcheck=_healthcheck(run),
        shell=run.strings("Shell"),
        on_build=run.strings("OnBuild") or (),
        history=tuple(_history(each) for each in fields.objects("history", limit=10_000)),
    )


def _healthcheck(run: Fields) -> Healthcheck | None:
    if run.values.get("Healthcheck") is None:
        return None
    fields = run.member("Healthcheck")
    default = Healthcheck()
    test = fields.strings("Test") or ()
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise Invalid(f"reading an image's config: the health check {test[0][:40]!r} is not NONE, CMD or CMD-SHELL")
    return Healthcheck(
        test=test,
        interval=fields.positive("Interval") or default.interval,
        timeout=fields.positive("Timeout") or default.timeout,
        retries=fields.positive("Retries") or default.retries,
        start_period=fields.positive("StartPeriod"),
        start_interval=fields.positive("StartInterval") or default.start_interval,
    )


def _history(fields: Fields) -> HistoryEntry:
    return HistoryEntry(
        created=fields.string("created"),
        created_by=fields.string("created_by"),
        comment=fields.string("comment"),
        author=fields.string("author"),
        empty_layer=fields.values.get("empty_layer") is True,
    )


def choose_platform(index: Index, wanted: Platform) -> Descriptor:
    """The index's manifest for `wanted`: the first exact one, else the first whose variant runs there; raises Invalid.

    Entries that are no images (attestations: platform unknown/unknown) and unknown media types are passed over.
    """
    images = [each for each in index.manifests if each.media_type in MANIFEST_TYPES]
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    for accepted in _accepted(wanted):
        for each in images:
            if each.platform is not None and _normal(each.platform) == accepted:
                return each
    there = ", ".join(
        sorted({str(each.platform) for each in images if each.platform and each.platform.os != "unknown"})
    )
    raise Invalid(f"choosing the platform {wanted}: the image is only there for {there or 'no platform'}")


_VARIANTS = {"arm": ("v8", "v7", "v6", "v5"), "amd64": ("v4", "v3", "v2", "v1")}
_DEFAULT_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armhf": "arm",
    "armel": "arm",
}


def _normal(platform: Platform) -> Platform:
    architecture = _ALIASES.get(platform.architecture, platform.architecture)
    return Platform(platform.os, architecture, platform.variant or _DEFAULT_VARIANT.get(architecture, ""))


def _accepted(wanted: Platform) -> list[Platform]:
    wanted = _normal(wanted)
    order = _VARIANTS.get(wanted.architecture, ())
    if wanted.variant not in order:
        return [wanted]
    return [wanted._replace(variant=each) for each in order[order.index(wanted.variant) :]]


def parse_platform(text: str) -> Platform:
    """Read `os/architecture[/variant]` as `--platform` takes it; raises Invalid."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(
        part and part.replace("_", "").replace("-", "").replace(".", "").isalnum() for part in parts
    ):
        raise Invalid(f"reading the platform {text[:80]!r}: it is not OS/ARCHITECTURE[/VARIANT], such as linux/arm64")
    return _normal(Platform(*parts))._replace(variant=parts[2] if len(parts) == 3 else "")


def machine_platform(machine: str) -> Platform:
    """The platform of a Linux machine by its `uname -m`."""
    variants = {"armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "armv8l": ("arm", "v7")}
    architecture, variant = variants.get(machine, (_ALIASES.get(machine, machine), ""))
    return Platform("linux", architecture, variant)
