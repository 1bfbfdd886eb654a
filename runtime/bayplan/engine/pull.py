"""Images come from registries."""

from __future__ import annotations

import contextlib
import os
from functools import partial

from bayplan.engine import policy
from bayplan.errors import Invalid
from bayplan.model.digest import Digest
from bayplan.model.image import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    choose_platform,
    machine_platform,
    parse_image_config,
    parse_manifest,
    parse_platform,
)
from bayplan.model.reference import Reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.registry.http import Settings
from bayplan.registry.protocol import Access
from bayplan.registry.remote import Remote, ask
from bayplan.store import blobs, layers, locks, room, staging, workers
from bayplan.store.ingest import ingest, is_complete
from bayplan.store.root import StateRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeAlias

AT_ONCE = 4

Report: TypeAlias = "Callable[[str], None]"


class Resolved(NamedTuple):
    """What a name stands for in its registry now, verified; nothing of it is on the disk yet.

    `digest` is what the name's digest is to the world (the index's where there is one); `documents` are the index, the
    manifest and the config, by digest.
    """

    reference: Reference | None
    digest: Digest
    manifest: Manifest
    config: ImageConfig
    config_bytes: bytes
    documents: tuple[tuple[Digest, bytes], ...]


class Pulled(NamedTuple):
    """An image that is in the store. image_id is the config's digest, size the plain archives' bytes.

    manifest_digest is the digest that the image was asked for by, or would be (an index's where there is one), None for
    archives that have none; `blobs` are all that the image needs to be sent on exactly as it came. `names` are what an
    archive calls it, canonical: () for a pull.
    """

    image_id: Digest
    manifest_digest: Digest | None
    repo_digest: str
    config: ImageConfig
    config_bytes: bytes
    layers: tuple[Digest, ...]
    size: int
    blobs: tuple[Digest, ...]
    names: tuple[str, ...] = ()


@contextlib.contextmanager
def using(root: StateRoot) -> Iterator[None]:
    """Between an image's coming and its being recorded nothing sweeps it away: sweeps wait (store/sweep.py)."""
    root.create()
    with locks.content(root.path, exclusive=False):
        yield


def host_settings() -> Settings:
    return Settings(dict(os.environ))


def head_digest(
    reference: Reference, *, auth: Mapping[str, str] | None = None, insecure: bool = False, settings: Settings | None = None
) -> Digest:
    """The digest that the registry has for a name now, at the cost of one request. Raises NotFound, Denied, Unavailable."""
    settings = settings or host_settings()
    policy.verify_pull(reference, settings.environment)
    found, remote = ask(reference, lambda each: _head(each, reference), settings=settings, auth=auth, insecure=insecure)
    remote.close()
    return found


def _head(remote: Remote, reference: Reference) -> Digest:
    """Registries need not give the digest (distribution-spec: SHOULD): then the manifest itself has it."""
    found = remote.head(_wanted(reference))
    if found.digest:
        return found.digest
    return blobs.digest_of(remote.manifest(_wanted(reference)).data)


def _wanted(reference: Reference) -> str:
    return str(reference.digest or reference.tag)


def resolve(
    reference: Reference,
    *,
    platform: str = "",
    auth: Mapping[str, str] | None = None,
    insecure: bool = False,
    settings: Settings | None = None,
) -> Resolved:
    """Fetch manifest and config into memory and verify them: all that a check needs, and nothing is written.

    `platform` is `os/architecture[/variant]`, "" this machine's. Raises NotFound, Denied, Unavailable, Invalid, and Refused where
    the host's policy does not want it: by its name before any connection, by its digest before anything of it is fetched.
    """
    settings = settings or host_settings()
    admission = policy.verify_pull(reference, settings.environment)
    question = partial(_resolve, reference=reference, platform=platform, admission=admission)
    resolved, remote = ask(reference, question, settings=settings, auth=auth, insecure=insecure)
    remote.close()
    return resolved


def _resolve(remote: Remote, reference: Reference, platform: str, admission: policy.Admission) -> Resolved:
    wanted = parse_platform(platform) if platform else machine_platform(os.uname().machine)
    found = remote.manifest(_wanted(reference))
    digest = reference.digest or blobs.digest_of(found.data)
    blobs.verify(found.data, digest, what=f"the manifest of {reference}")
    policy.verify_digest(admission, remote, digest)  # all that follows is reached by digests from these very bytes
    document = parse_manifest(found.data, media_type=found.media_type)
    documents = [(digest, found.data)]
    if isinstance(document, Index):
        chosen = choose_platform(document, wanted)
        data = _verified(remote.manifest(str(chosen.digest)).data, chosen, f"the manifest of {reference}")
        document = parse_manifest(data, media_type=chosen.media_type)
        documents.append((chosen.digest, data))
    if isinstance(document, Index):
        raise Invalid(f"pulling {reference}: an index within an index")
    config_bytes = remote.blob(document.config.digest, limit=document.config.size)
    _verified(config_bytes, document.config, f"the config of {reference}")
    config = parse_image_config(config_bytes)
    check_image(document, config, str(reference))
    documents.append((document.config.digest, config_bytes))
    if platform:
        _check_platform(reference, config, platform)
    return Resolved(reference, digest, document, config, config_bytes, tuple(documents))


def _verified(data: bytes, descriptor: Descriptor, what: str) -> bytes:
    if len(data) != descriptor.size:
        raise Invalid(f"{what} has {len(data)} bytes, and its descriptor announces {descriptor.size}")
    return blobs.verify(data, descriptor.digest, what=what)


def check_image(manifest: Manifest, config: ImageConfig, what: str) -> None:
    """Raise Invalid unless the manifest's layers and the config's diff_ids are of one number."""
    if len(manifest.layers) != len(config.diff_ids):
        raise Invalid(f"{what}: the manifest has {len(manifest.layers)} layers, and the config names {len(config.diff_ids)}")
    if config.platform.os not in ("linux", ""):
        raise Invalid(f"{what}: it is an image for {config.platform.os}, and this is Linux")


def _check_platform(reference: Reference, config: ImageConfig, platform: str) -> None:
    """Without an index there is nothing to choose from, and the one that is there may be another's."""
    wanted = parse_platform(platform)
    if (config.platform.os, config.platform.architecture) != (wanted.os, wanted.architecture):
        raise Invalid(f"pulling {reference}: it is only there for {config.platform}, not for {wanted}")


def pull(
    reference: Reference,
    *,
    root: StateRoot,
    platform: str = "",
    auth: Mapping[str, str] | None = None,
    insecure: bool = False,
    report: Report | None = None,
    settings: Settings | None = None,
) -> Pulled:
    """Bring an image into the store: what of it is there already is not fetched again. Records nothing.

    Progress goes to `report`, where there is one. `auth` is a credential for this call alone
    (username and password, or identity_token, or registry_token). All layers come in parallel, in forks of this process,
    which has no threads.
    Raises what `resolve` does, and Kernel; whole layers that came before stay, and nothing else.
    """
    settings = settings or host_settings()
    admission = policy.verify_pull(reference, settings.environment)
    root.create()
    staging.sweep(root)
    question = partial(_resolve, reference=reference, platform=platform, admission=admission)
    resolved, remote = ask(reference, question, settings=settings, auth=auth, insecure=insecure)
    remote.close()
    try:
        _fetch_layers(root, resolved, remote.access, remote.settings, report)
    except BaseException:
        staging.sweep(root)  # a worker that was ended for another's failure may have been clearing up
        raise
    return keep(root, resolved)


def _fetch_layers(root: StateRoot, resolved: Resolved, access: Access, settings: Settings, report: Report | None) -> None:
    """The largest first, so that none is left over to run alone at the end."""
    pairs = dict(zip(resolved.config.diff_ids, resolved.manifest.layers))
    missing = [(each, diff_id) for diff_id, each in pairs.items() if not is_complete(root, each, diff_id)]
    missing.sort(key=lambda pair: -pair[0].size)
    room.check(root.path, f"pulling {resolved.reference}", need=2 * sum(each.size for each, _ in missing))  # the blob, and no less unpacked
    jobs = [partial(_fetch_layer, root, each, diff_id, access, settings) for each, diff_id in missing]
    watch = partial(_watch, report, sum(each.size for each, _ in missing)) if report else None
    workers.run(jobs, at_once=AT_ONCE, watch=watch)


def _fetch_layer(
    root: StateRoot, descriptor: Descriptor, diff_id: Digest, access: Access, settings: Settings, advance: workers.Advance
) -> None:
    remote = Remote(access, settings)

    def download() -> Iterable[memoryview]:
        for piece in remote.download(descriptor.digest, descriptor.size):
            yield piece
            advance(len(piece))

    try:
        ingest(root, descriptor, diff_id, source=download)
    finally:
        remote.close()


def _watch(report: Report, total: int, counts: tuple[int, ...]) -> None:
    report(f"{sum(counts) / 1e6:.1f} of {total / 1e6:.1f} MB")


def keep(root: StateRoot, resolved: Resolved, *, names: tuple[str, ...] = ()) -> Pulled:
    """Put the documents beside the layers that are there already, and say what the image is made of."""
    layers.complete(root, resolved.config.diff_ids)
    for digest, data in resolved.documents:
        blobs.put(root, digest, data)
    every = (*(digest for digest, _ in resolved.documents), *(each.digest for each in resolved.manifest.layers))
    return Pulled(
        image_id=resolved.manifest.config.digest,
        manifest_digest=resolved.digest if resolved.reference else None,
        repo_digest=resolved.reference.with_digest(resolved.digest).familiar if resolved.reference else "",
        config=resolved.config,
        config_bytes=resolved.config_bytes,
        layers=resolved.config.diff_ids,
        size=sum(layers.size(root, each) for each in resolved.config.diff_ids),
        blobs=tuple(dict.fromkeys(every)),
        names=names,
    )
