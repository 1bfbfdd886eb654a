"""A layer's archive becomes a directory, as overlayfs reads it (OCI image-spec 1.1 layer.md, "Applying Changesets").

`apply` runs in a process that has chrooted into the layer's empty directory (store/extraction.py), so links in the
archive have nowhere to lead out to; that is the first line. The second is that no name with `..` is ever used.

Whiteouts become overlay's: a character device 0:0, or the xattr trusted.overlay.opaque (Linux
Documentation/filesystems/overlayfs.rst). A whiteout hides what the layers below have, never what its own layer has.
"""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Invalid
from bayplan.model.value import NamedTuple
from bayplan.store import tar
from bayplan.store.tar import Entry, Stream
from bayplan.store.trees import remove_tree

ENTRIES_LIMIT = 4_000_000
DIRECTORIES_LIMIT = 300_000  # their times wait in memory for the end
IMPLIED_LIMIT = 16 << 20  # bytes of all names of implied directories
OPAQUE = "trusted.overlay.opaque"

_WHITEOUT = b".wh."
_WHITEOUT_OPAQUE = b".wh..wh..opq"
_WHITEOUT_RESERVED = b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
REFUSED_XATTRS = ("trusted.overlay.", "user.overlay.")
HOSTS_OWN_XATTRS = ("security.selinux", "security.ima", "security.evm", "system.nfs4_acl")


class Unpacked(NamedTuple):
    """What an archive held: `implied` are directories that it has no entry for, `opaque` is whether it hides all below."""

    entries: int
    implied: tuple[bytes, ...]
    opaque: bool


class Placement(NamedTuple):
    """An entry's name, taken apart: its directory, relative to the layer's root (b"" is the root), and its last part."""

    directory: bytes
    name: bytes

    @property
    def path(self) -> bytes:
        return self.directory + b"/" + self.name if self.directory else self.name


def apply(stream: Stream) -> Unpacked:
    """Unpack the archive into the current root directory, which is the current directory too.

    Raises Invalid (the archive is wrong; the message names the entry), or OSError (the host is: disk full); what was unpacked so far
    then stays for the caller to remove.
    """
    layer = _Layer()
    count = 0
    try:
        for entry in tar.entries(stream):
            count += 1
            if count > ENTRIES_LIMIT:
                raise Invalid(f"it has over {ENTRIES_LIMIT} entries")
            _apply_entry(layer, stream, entry)
        stream.drain()
        layer.finish()
    finally:
        layer.close()
    return Unpacked(count, tuple(sorted(layer.implied)), layer.opaque)


def placement(path: bytes) -> Placement | None:
    """Where an entry goes; None is the layer's root itself. Raises Invalid for a name that leaves it or cannot be.

    A leading `/` and `.` components mean nothing, as in every engine.
    """
    if len(path) > tar.PATH_LIMIT or b"\0" in path:
        raise Invalid(f"it is longer than {tar.PATH_LIMIT} bytes, or holds a NUL byte")
    if path[:1] in b"/." or path[-1:] == b"/" or b"//" in path or b"/." in path:
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise Invalid("it has a component `..`")
        path = b"/".join(parts)
    if not path:
        return None
    directory, _, name = path.rpartition(b"/")
    if len(name) > tar.NAME_LIMIT + (len(_WHITEOUT) if name.startswith(_WHITEOUT) else 0):  # a whiteout's own name is never made
        raise Invalid(f"a component is longer than {tar.NAME_LIMIT} bytes")
    return Placement(directory, name)


def _apply_entry(layer: _Layer, stream: Stream, entry: Entry) -> None:
    """Apply one entry, and take its bytes off the stream. Whatever goes wrong, the error names the entry."""
    try:
        where = placement(entry.path)
        if where is None:
            layer.set_root(entry)
        elif where.name.startswith(_WHITEOUT):
            _apply_whiteout(layer, where)
        elif entry.kind == tar.REGULAR:
            layer.make_file(where, entry, stream)
            return
        else:
            _make_other(layer, where, entry)
        stream.skip(entry.size + tar.padding(entry.size))
    except Invalid as error:
        raise Invalid(f"entry {os.fsdecode(entry.path[:200])!r}: {error}") from error
    except OSError as error:
        raise _refused(entry, error) from error


def _refused(entry: Entry, error: OSError) -> Exception:
    shown = os.fsdecode(entry.path[:200])
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.EROFS):
        return OSError(error.errno, error.strerror, entry.path[:200])  # the host's fault, not the archive's
    return Invalid(f"entry {shown!r}: it cannot be made: {error.strerror}")


def _apply_whiteout(layer: _Layer, where: Placement) -> None:
    if where.name == _WHITEOUT_OPAQUE:
        layer.make_opaque(where.directory)
        return
    if where.name.startswith(_WHITEOUT_RESERVED):
        return  # aufs' own bookkeeping, which old builders left in layers
    hidden = where.name[len(_WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise Invalid("it is a whiteout of nothing that a directory can hold")
    layer.make_whiteout(Placement(where.directory, hidden))


def _make_other(layer: _Layer, where: Placement, entry: Entry) -> None:
    if entry.kind == tar.DIRECTORY:
        layer.make_directory(where, entry)
    elif entry.kind == tar.SYMBOLIC_LINK:
        layer.make_symbolic_link(where, entry)
    elif entry.kind == tar.HARD_LINK:
        layer.make_hard_link(where, entry)
    else:
        layer.make_node(where, entry)


class _Layer:
    """The directory being filled: the current root. Keeps the last used directory open, since archives are in order."""

    def __init__(self) -> None:
        self.implied: set[bytes] = set()
        self.opaque = False
        self._implied_bytes = 0
        self._times: dict[bytes, int] = {}
        self._directory = b""
        self._descriptor = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._descriptor)

    def finish(self) -> None:
        """Set the directories' times, which every later entry inside them had changed."""
        for path, mtime in self._times.items():
            try:
                os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
            except FileNotFoundError:
                continue  # a later entry replaced what was above it

    def set_root(self, entry: Entry) -> None:
        if entry.kind != tar.DIRECTORY:
            raise Invalid("the layer's root is not a directory there")
        self._attributes(b".", entry)
        self._times[b"."] = entry.mtime

    def make_file(self, where: Placement, entry: Entry, stream: Stream) -> None:
        parent = self._open(where.directory)
        try:
            file = os.open(where.name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._make_way(where)
            file = os.open(where.name, _CREATE, 0o600, dir_fd=parent)
        try:
            size = entry.size
            if size:
                stream.pour(size, lambda view: os.write(file, view))
                stream.skip(-size % 512)
            os.fchown(file, entry.uid, entry.gid)
            os.fchmod(file, entry.mode)  # after fchown, which clears the set-user-ID bit
            if entry.xattrs:
                _set_xattrs(file, entry)
            os.utime(file, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(file)

    def make_directory(self, where: Placement, entry: Entry) -> None:
        path = where.path
        parent = self._open(where.directory)
        try:
            os.mkdir(where.name, 0o755, dir_fd=parent)
        except FileExistsError:
            self._directory_over(where)
        self.implied.discard(path)
        self._attributes(path, entry)
        self._times[path] = entry.mtime
        if len(self._times) > DIRECTORIES_LIMIT:
            raise Invalid(f"the layer has over {DIRECTORIES_LIMIT} directories")

    def make_symbolic_link(self, where: Placement, entry: Entry) -> None:
        if not entry.link or len(entry.link) > tar.PATH_LIMIT or b"\0" in entry.link:
            raise Invalid("a symbolic link's target is empty, too long or holds a NUL byte")
        self._clear(where)
        os.symlink(entry.link, where.name, dir_fd=self._descriptor)
        self._finish_special(where, entry)

    def make_hard_link(self, where: Placement, entry: Entry) -> None:
        """Link to what the same layer already holds; the attributes are the target's."""
        target = placement(entry.link)
        if target is None:
            raise Invalid("a hard link to the layer's root")
        if target.path == where.path:
            raise Invalid("a hard link to itself")
        self._open(where.directory)
        try:
            found = os.lstat(target.path)
        except OSError as error:
            shown = os.fsdecode(entry.link[:200])
            raise Invalid(f"a hard link to {shown!r}, which the layer does not hold before it") from error
        if stat.S_ISDIR(found.st_mode):
            raise Invalid("a hard link to a directory")
        self._clear(where)
        os.link(target.path, where.name, dst_dir_fd=self._descriptor, follow_symlinks=False)

    def make_node(self, where: Placement, entry: Entry) -> None:
        kinds = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
        major, minor = entry.device
        if major >= 1 << 12 or minor >= 1 << 20:
            raise Invalid(f"there is no device {major}:{minor}")
        self._clear(where)
        os.mknod(where.name, kinds[entry.kind] | 0o600, os.makedev(major, minor), dir_fd=self._descriptor)
        os.chown(where.name, entry.uid, entry.gid, dir_fd=self._descriptor, follow_symlinks=False)
        os.chmod(where.name, entry.mode, dir_fd=self._descriptor)
        os.utime(where.name, ns=(entry.mtime, entry.mtime), dir_fd=self._descriptor, follow_symlinks=False)

    def make_whiteout(self, where: Placement) -> None:
        """Hide `where` of the layers below; if this layer has it as a directory, only what is in it below is hidden."""
        parent = self._open(where.directory)
        try:
            os.mknod(where.name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            found = os.lstat(where.name, dir_fd=parent)
            if stat.S_ISDIR(found.st_mode):
                os.setxattr(where.path, OPAQUE, b"y", follow_symlinks=False)

    def make_opaque(self, directory: bytes) -> None:
        """Hide everything that the layers below have in `directory`. Overlay does not look at its root's xattr."""
        if directory:
            os.setxattr(self._open(directory), OPAQUE, b"y")
        else:
            self.opaque = True

    def _open(self, directory: bytes) -> int:
        """A descriptor of a directory, made if the archive only implies it. Links are followed, and stay in our root."""
        if directory == self._directory:
            return self._descriptor
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            opened = os.open(directory or b".", flags)
        except (FileNotFoundError, NotADirectoryError):
            self._imply(directory)
            opened = os.open(directory or b".", flags)
        os.close(self._descriptor)
        self._directory, self._descriptor = directory, opened
        return opened

    def _imply(self, directory: bytes) -> None:
        path = b""
        for part in directory.split(b"/"):
            path = path + b"/" + part if path else part
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                if not _is_whiteout(path):
                    continue  # a directory, or a link to one; anything else fails at the next component
                os.unlink(path)
                os.mkdir(path, 0o755)
                os.setxattr(path, OPAQUE, b"y", follow_symlinks=False)
            self.implied.add(path)
            self._implied_bytes += len(path)
            if self._implied_bytes > IMPLIED_LIMIT or len(self.implied) > DIRECTORIES_LIMIT:
                raise Invalid("the layer implies too many directories")

    def _directory_over(self, where: Placement) -> None:
        """Make sure of a directory where something is: one stays, a whiteout makes it opaque, anything else goes."""
        found = os.lstat(where.name, dir_fd=self._descriptor)
        if stat.S_ISDIR(found.st_mode):
            return
        os.unlink(where.name, dir_fd=self._descriptor)
        os.mkdir(where.name, 0o755, dir_fd=self._descriptor)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            os.setxattr(where.path, OPAQUE, b"y", follow_symlinks=False)

    def _clear(self, where: Placement) -> None:
        parent = self._open(where.directory)
        try:
            os.lstat(where.name, dir_fd=parent)
        except FileNotFoundError:
            return
        self._make_way(where)

    def _make_way(self, where: Placement) -> None:
        """Remove what an earlier entry of this archive made: the later one counts."""
        try:
            os.unlink(where.name, dir_fd=self._descriptor)
        except IsADirectoryError:
            self._forget(where.path)
            remove_tree(where.path, scratch=b".")

    def _forget(self, path: bytes) -> None:
        below = path + b"/"
        self.implied = {each for each in self.implied if each != path and not each.startswith(below)}
        self._times = {each: mtime for each, mtime in self._times.items() if each != path and not each.startswith(below)}

    def _attributes(self, path: bytes, entry: Entry) -> None:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        os.chmod(path, entry.mode)
        if entry.xattrs:
            _set_xattrs(path, entry)

    def _finish_special(self, where: Placement, entry: Entry) -> None:
        os.chown(where.name, entry.uid, entry.gid, dir_fd=self._descriptor, follow_symlinks=False)
        os.utime(where.name, ns=(entry.mtime, entry.mtime), dir_fd=self._descriptor, follow_symlinks=False)


def _is_whiteout(path: bytes) -> bool:
    found = os.lstat(path)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _set_xattrs(target: int | bytes, entry: Entry) -> None:
    """Set the entry's extended attributes. Those of overlayfs would let an archive reach into other layers' files."""
    for name, value in entry.xattrs:
        if name.startswith(REFUSED_XATTRS):
            raise Invalid(f"it sets {name!r}, which belongs to the host's overlayfs")
        if name in HOSTS_OWN_XATTRS:
            continue
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:  # a file system without user.*: every engine goes on
                raise
