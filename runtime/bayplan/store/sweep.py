"""Removing what nothing needs: blobs, layers and chains (plan/garbage.py says which), directories that no record names."""

from __future__ import annotations

import contextlib
import os

from bayplan.errors import NotFound
from bayplan.model.digest import parse_digest
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import blobs, layers, locks
from bayplan.store.root import StateRoot
from bayplan.store.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bayplan.model.digest import Digest


class Swept(NamedTuple):
    """How many things went, and how many bytes: layers by their plain archives, blobs as they were."""

    things: int = 0
    bytes: int = 0


def chains(root: StateRoot) -> tuple[Digest, ...]:
    """Every chain that something was made for, here or by the storage driver."""
    names = {*_names(root.chains), *_names(root.subvolumes)}
    return tuple(parse_digest(f"sha256:{name}") for name in sorted(names))


def blobs_used(root: StateRoot) -> tuple[tuple[Digest, float], ...]:
    """Every blob, and when it came or was released last (seconds since 1970)."""
    found = []
    for digest in blobs.listed(root):
        with contextlib.suppress(FileNotFoundError):
            found.append((digest, os.lstat(root.blob(digest)).st_mtime))
    return tuple(found)


def release(root: StateRoot, digests: Iterable[Digest]) -> None:
    """An image that needed these blobs goes: what nothing else needs is idle from now on. One that is not there is no error."""
    for digest in digests:
        with contextlib.suppress(FileNotFoundError):
            os.utime(root.blob(digest), follow_symlinks=False)


def content(root: StateRoot, *, unused_layers: Iterable[Digest], unused_chains: Iterable[Digest], unused_blobs: Iterable[Digest]) -> Swept:
    """Remove all these. Whoever calls it holds the lock of the content for itself alone; killed at any moment, the next one goes on."""
    things = size = 0
    for layer in unused_layers:
        with contextlib.suppress(NotFound):
            size += layers.size(root, layer)
        layers.remove(root, layer)
        things += 1
    for chain in unused_chains:
        layers.remove_chain(root, chain)
        remove_tree(root.subvolume(chain), scratch=root.staging)
        things += 1
    layers.remove_dangling_links(root)
    for blob in unused_blobs:
        size += blobs.size(root, blob)
        blobs.remove(root, blob)
        things += 1
    return Swept(things, size)


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
