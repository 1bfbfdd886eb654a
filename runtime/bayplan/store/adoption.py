"""A tree of the state becomes a layer of it: where it lies, or, where it goes on being used, by way of its archive."""

from __future__ import annotations

import hashlib
import os
import stat

from bayplan.errors import Kernel
from bayplan.model.digest import Digest
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import extraction, ingest, layers
from bayplan.store.pack import LeftOut, clamped, why_left_out, write_archive
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed
from bayplan.store.trees import remove_tree
from bayplan.store.unpack import REFUSED_XATTRS
from bayplan.store.walking import OPAQUE, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bayplan.store.pack import Packed
    from bayplan.store.walking import Found

_TOGETHER = 1 << 20  # bytes: a pipe is not written to for every header


class Adopted(NamedTuple):
    """A layer that is in the store; `size` is its plain archive's, `left_out` what the tree had and a layer cannot have."""

    diff_id: Digest
    size: int
    left_out: tuple[LeftOut, ...]


def adopt(root: StateRoot, tree: str, *, epoch: int | None = None) -> Adopted:
    """Make the upper directory `tree`, which nobody uses any more and which is of the state's file system, a layer.

    It is moved, not copied, and becomes what unpacking its archive would make: without sockets and names that a layer cannot have, without
    overlay's own attributes, and with times clamped to `epoch` (SOURCE_DATE_EPOCH). The archive is only hashed; no blob is made (engine/
    sealing.py makes it). Where the layer is there already, the tree is removed. Raises what `pack` raises, and Kernel: the tree may be
    changed, or gone, then, and nothing half made is left.
    """
    found = hashlib.sha256()
    try:
        packed = write_archive(_settled(root, tree, epoch), found.update, epoch=epoch)
        diff_id = Digest("sha256", found.hexdigest())
        with claimed(root, f"layer-{diff_id.hex}") as directory:
            if layers.exists(root, diff_id):
                remove_tree(tree, scratch=root.staging)
            else:
                os.mkdir(f"{directory}/layer", 0o700)
                os.rename(tree, f"{directory}/layer/diff")
                _put_in_place(root, f"{directory}/layer", diff_id, packed.size)
    except OSError as error:
        raise Kernel("making a layer of a container's files", error) from error
    return Adopted(diff_id, packed.size, packed.left_out)


def adopt_archive(root: StateRoot, write_to: Callable[[Callable[[bytes], object]], Packed]) -> Adopted:
    """Make a layer of the archive that `write_to` writes, a `pack` of something that stays as it is.

    It is unpacked like one that comes from elsewhere, so the layer is what the digest says, whatever happened to the tree meanwhile.
    Raises what `write_to` raises, and Kernel; nothing is left then.
    """
    with claimed(root, f"making-{os.urandom(8).hex()}") as directory:
        tree = f"{directory}/layer/diff"
        os.mkdir(f"{directory}/layer", 0o700)
        os.mkdir(tree, 0o755)
        os.chmod(tree, 0o755)
        running = extraction.start(tree, algorithm="sha256", room=ingest.room(directory))
        try:
            together = _Together(running.feed)
            packed = write_to(together.write)
            together.flush()
            report = running.finish()
        finally:
            running.abort()
        with claimed(root, f"layer-{report.diff_id.hex}"):
            if not layers.exists(root, report.diff_id):
                try:
                    _put_in_place(root, f"{directory}/layer", report.diff_id, report.size)
                except OSError as error:
                    raise Kernel("making a layer of a container's files", error) from error
    return Adopted(report.diff_id, report.size, packed.left_out)


def _put_in_place(root: StateRoot, layer: str, diff_id: Digest, size: int) -> None:
    layers.describe(root, layer, diff_id, size=size, implied=(), opaque=False)
    ingest.to_disk(layer)
    layers.commit(root, layer, diff_id)


class _Together:
    """Small pieces, handed on as large ones."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        self._write(b"".join(self._pieces))
        self._pieces, self._size = [], 0


def _settled(root: StateRoot, tree: str, epoch: int | None) -> Iterator[Found]:
    """The walk of the tree, which becomes on its way what its archive says."""
    without = b"\0"
    for found in walk((tree,)):
        if found.path.startswith(without):
            continue
        if found.leaving:
            _settle_time(found, epoch)
        elif found.whiteout:
            _settle_whiteout(found)
        elif why_left_out(found.path, found.status):
            remove_tree(f"/proc/self/fd/{found.parent}/{os.fsdecode(found.name)}", scratch=root.staging)
            without = found.path + b"/"
            yield found
            continue
        else:
            _settle_attributes(found, epoch)
        yield found


def _settle_time(directory: Found, epoch: int | None) -> None:
    """Give a directory its time again, which changed with what was done in it."""
    mtime = clamped(directory.status.st_mtime_ns, epoch)
    if os.fstat(directory.opened).st_mtime_ns != mtime:
        os.utime(directory.opened, ns=(directory.status.st_atime_ns, mtime))


def _settle_whiteout(found: Found) -> None:
    """One that is a file with an attribute becomes the device that it always is in a layer."""
    if not stat.S_ISCHR(found.status.st_mode):
        os.unlink(found.name, dir_fd=found.parent)
        os.mknod(found.name, stat.S_IFCHR, 0, dir_fd=found.parent)


def _settle_attributes(found: Found, epoch: int | None) -> None:
    mode, mtime = found.status.st_mode, found.status.st_mtime_ns
    if stat.S_ISDIR(mode):
        _remove_overlays(found.opened, keep=bool(found.path))
        return
    if stat.S_ISREG(mode):
        _remove_overlays(os.path.join(b"/proc/self/fd/%d" % found.parent, found.name), keep=False)
    if clamped(mtime, epoch) != mtime:
        times = (found.status.st_atime_ns, clamped(mtime, epoch))
        os.utime(found.name, ns=times, dir_fd=found.parent, follow_symlinks=False)


def _remove_overlays(target: int | bytes, *, keep: bool) -> None:
    """Remove overlay's own attributes, but for a directory's being opaque, where `keep` says that it means something."""
    follow = isinstance(target, int)
    for name in os.listxattr(target, follow_symlinks=follow):
        if name.startswith(REFUSED_XATTRS):
            if keep and name == OPAQUE and os.getxattr(target, name) == b"y":
                continue
            os.removexattr(target, name, follow_symlinks=follow)
