"""What of a store nothing needs any more: decided here, removed by store/sweep.py."""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bayplan.model.digest import Digest


class Need(NamedTuple):
    """What one thing that is kept (an image, an index, a record of the build cache) needs of the store. What of it is not there
    is no matter: a blob may be made again from its layer."""

    layers: tuple[Digest, ...] = ()
    chains: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()


class Blob(NamedTuple):
    """`used`: when it last came, or lost an image that needed it; seconds since 1970."""

    digest: Digest
    used: float


class Stored(NamedTuple):
    """All that the store has."""

    layers: tuple[Digest, ...] = ()
    chains: tuple[Digest, ...] = ()
    blobs: tuple[Blob, ...] = ()


class Garbage(NamedTuple):
    layers: tuple[Digest, ...]
    chains: tuple[Digest, ...]
    blobs: tuple[Digest, ...]


def garbage(stored: Stored, needs: Iterable[Need], *, idle_since: float) -> Garbage:
    """What of `stored` none of `needs` names. A blob goes only if it was last used before `idle_since`: until then pulling its image
    again fetches nothing. A layer goes at once: it takes the most room, and is made from its blob."""
    wanted = tuple(needs)
    layers = {layer for need in wanted for layer in need.layers}
    chains = {chain for need in wanted for chain in need.chains}
    blobs = {blob for need in wanted for blob in need.blobs}
    return Garbage(
        tuple(layer for layer in stored.layers if layer not in layers),
        tuple(chain for chain in stored.chains if chain not in chains),
        tuple(blob.digest for blob in stored.blobs if blob.digest not in blobs and blob.used < idle_since),
    )
