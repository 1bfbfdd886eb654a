"""Removing what nothing refers to: blobs and layers that no image needs, directories that no record names."""

from __future__ import annotations

import os

from bayplan.model.digest import parse_digest
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import layers, locks
from bayplan.store.records import ImageRow
from bayplan.store.root import StateRoot
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def images(root: StateRoot, recorded: Callable[[], Iterable[ImageRow]]) -> int:
    """Remove the blobs, layers and chains that no recorded image needs; how many things went.

    Waits for running pulls, and asks for what is `recorded` only then: they have recorded more by the end.
    """
    with locks.content(root.path, exclusive=True):
        kept = tuple(recorded())
        needed = [tuple(map(parse_digest, row.layers)) for row in kept]
        wanted_layers = {layer for chain in needed for layer in chain}
        wanted_chains = {layers.chain_id(chain[:count]) for chain in needed for count in range(1, len(chain) + 1)}
        wanted_blobs = {parse_digest(blob) for row in kept for blob in (*row.blobs, row.id)}
        unused = [layer for layer in layers.listed(root) if layer not in wanted_layers]
        for layer in unused:
            layers.remove(root, layer)
        gone = len(unused)
        for name in _names(root.chains):
            if name not in {chain.hex for chain in wanted_chains}:
                layers.remove_chain(root, parse_digest(f"sha256:{name}"))
                gone += 1
        layers.remove_dangling_links(root)
        return gone + _blobs(root, {(blob.algorithm, blob.hex) for blob in wanted_blobs})


def _blobs(root: StateRoot, wanted: set[tuple[str, str]]) -> int:
    gone = 0
    for algorithm in ("sha256", "sha512"):
        directory = f"{root.blobs}/{algorithm}"
        for name in _names(directory):
            if (algorithm, name) not in wanted:
                os.unlink(f"{directory}/{name}")
                gone += 1
    return gone


def debris(root: StateRoot, known: Iterable[str]) -> tuple[str, ...]:
    """Ids of containers' directories that have no record and that nobody works on: their maker or remover was killed."""
    known = set(known)
    return tuple(name for name in _names(root.containers) if name not in known and not locks.container_is_held(root.container(name)))


def remove_debris(root: StateRoot, container_id: str) -> None:
    remove_tree(root.container(container_id), scratch=root.staging)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
