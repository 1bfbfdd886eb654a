"""`copy`: an image goes from one location to another, whatever kinds these are."""

from __future__ import annotations

from bayplan.engine import guard
from bayplan.engine.layout_targets import ArchiveTarget, LayoutTarget
from bayplan.engine.layouts import DockerSource, open_source
from bayplan.engine.pull import host_settings, using
from bayplan.engine.repositories import RegistrySource, RegistryTarget
from bayplan.engine.transfer import transfer
from bayplan.errors import Invalid
from bayplan.model.digest import Digest
from bayplan.model.image import DOCKER_INDEX, DOCKER_MANIFEST
from bayplan.model.location import LAYOUT, OCI_ARCHIVE, REGISTRY, STORE, Location
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from bayplan.engine.state import State
    from bayplan.engine.transfer import Source, Target, Tell
    from bayplan.registry.http import Settings


class Copied(NamedTuple):
    """What has the name at the destination now. `exact`: its digest is the source's, if the source had one.

    `foreign`: it is in Docker's words in a place where many tools know only OCI's.
    """

    digest: Digest
    exact: bool
    foreign: bool


class _How(NamedTuple):
    platform: str
    every: bool
    format: str
    settings: Settings
    tell: Tell


def copy(
    source: Location,
    target: Location,
    *,
    platform: str = "",
    every: bool = False,
    format: str = "",
    state: Callable[[], State],
    settings: Settings | None = None,
    tell: Tell,
) -> Copied:
    """Copy an image; `state` is only opened for a location in the store. Raises what transfer.transfer raises."""
    if platform and every:
        raise Invalid(f"copying {source}: either one platform or all of them")
    how = _How(platform, every, format, settings or host_settings(), tell)
    if STORE in (source.transport, target.transport):
        opened = state()
        with guard.clearing(opened), using(opened.root):
            return _copy(source, target, opened, how)
    return _copy(source, target, None, how)


def _copy(source: Location, target: Location, state: State | None, how: _How) -> Copied:
    from_ = _source(source, state, how.settings)
    try:
        to = _target(target, source, state, how.settings)
        made = isinstance(from_, DockerSource) and target.transport in (LAYOUT, OCI_ARCHIVE)  # its digest is new in any case
        try:
            top = transfer(from_, to, platform=how.platform, every=how.every, format=how.format or ("oci" if made else ""), tell=how.tell)
            _record(state, target, to)
        finally:
            to.close()
    finally:
        from_.close()
    foreign = target.transport in (LAYOUT, OCI_ARCHIVE) and top.descriptor.media_type in (DOCKER_MANIFEST, DOCKER_INDEX)
    return Copied(top.descriptor.digest, not isinstance(from_, DockerSource), foreign)


def _source(location: Location, state: State | None, settings: Settings) -> Source:
    if location.transport == REGISTRY:
        assert location.reference
        return RegistrySource(location.reference, settings=settings)
    if state is not None and location.transport == STORE:
        from bayplan.engine import images, push
        from bayplan.engine.sealing import sealed
        from bayplan.engine.stored import StoreSource

        return StoreSource(state.root, push.top_of(state, sealed(state, images.find(state, location.name))))
    return open_source(location)


def _target(location: Location, source: Location, state: State | None, settings: Settings) -> Target:
    if location.transport == REGISTRY:
        assert location.reference
        mounts = _mounts(location, source)
        return RegistryTarget(location.reference, settings=settings, mounts=lambda _: mounts, also=mounts)
    if state is not None and location.transport == STORE:
        from bayplan.engine.stored import StoreTarget

        assert location.reference
        return StoreTarget(state.root, location.reference)
    return LayoutTarget(location) if location.transport == LAYOUT else ArchiveTarget(location)


def _mounts(target: Location, source: Location) -> tuple[str, ...]:
    """Within one registry, blobs need not be sent."""
    there, here = target.reference, source.reference
    if source.transport != REGISTRY or not there or not here or there.registry != here.registry or there.repository == here.repository:
        return ()
    return (here.repository,)


def _record(state: State | None, location: Location, target: Target) -> None:
    from bayplan.engine.stored import StoreTarget

    if state is not None and isinstance(target, StoreTarget):
        from bayplan.engine import images

        assert location.reference
        images.record(state, target.pulled(), (location.reference.canonical,))
