"""COPY and ADD: files of the context, of another stage or of an image become a layer.

Modes and times are the sources'; owners are root's, or --chown's, and the sources' own where another stage or image is copied from. A file
replaces a file or a link, and goes into a directory; directories are merged. Directories that were there keep their times, those that
are made on the way get the newest of what is copied: the same content gives the same layer.
"""

from __future__ import annotations

import os
import stat
import time

from bayplan.build import modes
from bayplan.engine import build_content
from bayplan.engine.build_content import Item, Source
from bayplan.engine.build_order import Order
from bayplan.engine.build_site import Site
from bayplan.errors import Invalid, Kernel
from bayplan.kernel import linux, paths, users
from bayplan.kernel.rootfs import mount_rootfs
from bayplan.model.runtime import User
from bayplan.store import adoption

_CHUNK = 1 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy(site: Site, layers: tuple[str, ...], order: Order) -> str | None:
    """The diff_id of the layer with what was copied; None where a directory alone was wanted, and was there. Invalid, NotFound, Kernel."""
    directory = site.step_directory()
    rootfs = site.overlay(() if order.link else layers, directory)
    root = mount_rootfs(rootfs)
    umask = os.umask(0)
    try:
        _Copier(root, order).run()
    except OSError as error:
        raise Kernel(f"copying to {order.destination}", error) from error
    finally:
        os.umask(umask)
        os.close(root)
        linux.umount(rootfs.upper, linux.MNT_DETACH)
    if order.only_directory and not os.listdir(rootfs.upper):
        return None
    return str(adoption.adopt(site.state.root, rootfs.upper, epoch=site.epoch).diff_id)


class _Copier:
    """One copy onto a mounted root. Directories are named by their paths there, which have no links in them. `times` are what each
    directory that was touched is to have in the end, None for the newest of what is copied."""

    def __init__(self, root: int, order: Order) -> None:
        self._root, self._order = root, order
        self._owner = _owner(root, order.chown)
        self._newest = 0
        self._times: dict[str, int | None] = {}
        self._last = ("", -1)
        self._linked: dict[tuple[int, int], str] = {}

    def run(self) -> None:
        try:
            if self._order.only_directory:
                self._newest = time.time_ns()
                self._make_directories(self._order.destination)
            for index, source in enumerate(self._order.sources):
                self._copy(source, self._order.names[index] if self._order.names else "")
            for path, before in self._times.items():
                when = self._newest if before is None else before
                os.utime(self._open(path), ns=(when, when))
        finally:
            if self._last[1] >= 0:
                os.close(self._last[1])

    def _copy(self, source: Source, name: str) -> None:
        """A directory's content goes into the destination; anything else into it, or to its place."""
        top = ""
        self._linked.clear()
        for item in build_content.items(source):
            self._newest = max(self._newest, item.status.st_mtime_ns)
            if not item.path and stat.S_ISDIR(item.status.st_mode):
                top = self._make_directories(f"{self._order.destination}/{name}", like=item, source=source)
            elif not item.path:
                above, _, last = self._file_target(source, name).rpartition("/")
                *parents, last = paths.settle(self._root, f"{above}/{last}") or [last]  # a link there is written through
                self._put(item, self._make_directories("/".join(parents)), last, source)
            else:
                above, _, last = item.path.rpartition("/")
                self._put(item, f"{top}/{above}".rstrip("/"), last, source)

    def _file_target(self, source: Source, name: str) -> str:
        if name:
            return f"{self._order.destination}/{name}"
        last = source.path.rpartition("/")[2]
        return f"{self._order.destination.rstrip('/')}/{last}" if self._order.into or self._is_directory() else self._order.destination

    def _is_directory(self) -> bool:
        try:
            os.close(paths.open_in_root(self._root, self._order.destination, linux.O_PATH | os.O_DIRECTORY))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _open(self, path: str) -> int:
        """A descriptor of a directory that is there, until the next call."""
        if self._last[0] != path or self._last[1] < 0:
            if self._last[1] >= 0:
                os.close(self._last[1])
            self._last = ("", -1)
            fd = paths.open_in_root(self._root, path or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._last = (path, fd)
        return self._last[1]

    def _enter(self, path: str) -> int:
        """As `_open`, for who puts something there: the directory's own times come back in the end."""
        try:
            fd = self._open(path)
        except FileNotFoundError:  # it was excluded itself, and what is in it was not
            above, _, name = path.rpartition("/")
            self._make(above, name)
            fd = self._open(path)
        if path not in self._times:
            self._times[path] = os.fstat(fd).st_mtime_ns
        return fd

    def _make(self, above: str, name: str, *, replaces: bool = False) -> bool:
        """Whether the directory had to be made; one that was is the order's owner's. Of an archive it `replaces` a link."""
        parent = self._enter(above)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode) and replaces:
                os.unlink(name, dir_fd=parent)
                return self._make(above, name)
            if not stat.S_ISDIR(found.st_mode):
                raise Invalid(f"copying a directory to {above}/{name}: a file is there") from None
            return False
        os.chown(name, *(self._owner or (0, 0)), dir_fd=parent, follow_symlinks=False)
        self._times[f"{above}/{name}"] = None
        return True

    def _make_directories(self, path: str, *, like: Item | None = None, source: Source | None = None) -> str:
        """Make a directory of the root with its missing parents, links followed; its path without links. One that is made looks `like`
        what it is made for."""
        settled, made = "", False
        for name in paths.settle(self._root, path):
            made = self._make(settled, name)
            settled = f"{settled}/{name}"
        if made and like and source:
            self._dress(self._open(settled), like, source)
            self._times[settled] = like.status.st_mtime_ns
        return settled

    def _put(self, item: Item, above: str, name: str, source: Source) -> None:
        kind = stat.S_IFMT(item.status.st_mode)
        if kind == stat.S_IFDIR:
            self._make(above, name, replaces=source.archive)
            self._dress(self._open(f"{above}/{name}"), item, source)
            self._times[f"{above}/{name}"] = item.status.st_mtime_ns
            return
        parent = self._enter(above)
        _make_room(parent, name)
        if kind != stat.S_IFREG:
            self._put_special(item, parent, name, source)
        elif not self._link(item, parent, name, f"{above}/{name}"):
            self._put_file(item, parent, name, source)

    def _link(self, item: Item, parent: int, name: str, path: str) -> bool:
        """Whether it is a further name of a file that was copied already."""
        identity = build_content.identity(item)
        if identity is None:
            return False
        first = self._linked.setdefault(identity, path)
        if first == path:
            return False
        fd = paths.open_in_root(self._root, first, linux.O_PATH | os.O_NOFOLLOW)
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent, follow_symlinks=True)
        finally:
            os.close(fd)
        return True

    def _put_special(self, item: Item, parent: int, name: str, source: Source) -> None:
        kind = stat.S_IFMT(item.status.st_mode)
        if kind == stat.S_IFLNK:
            os.symlink(build_content.link(item), name, dir_fd=parent)
        else:
            os.mknod(name, kind | 0o600, item.status.st_rdev, dir_fd=parent)
        uid, gid = self._owner_of(item, source)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, self._mode_of(item), dir_fd=parent)
        os.utime(name, ns=(item.status.st_mtime_ns, item.status.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _put_file(self, item: Item, parent: int, name: str, source: Source) -> None:
        reading = build_content.open_item(item)
        writing = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            while os.sendfile(writing, reading, None, _CHUNK):
                pass
            self._dress(writing, item, source)
        finally:
            os.close(reading)
            os.close(writing)

    def _dress(self, fd: int, item: Item, source: Source) -> None:
        """Owner, mode, attributes and times."""
        os.fchown(fd, *self._owner_of(item, source))
        os.fchmod(fd, self._mode_of(item))
        for name, value in build_content.xattrs(item, source):
            os.setxattr(fd, name, value)
        os.utime(fd, ns=(item.status.st_mtime_ns, item.status.st_mtime_ns))

    def _owner_of(self, item: Item, source: Source) -> tuple[int, int]:
        if self._owner:
            return self._owner
        return (item.status.st_uid, item.status.st_gid) if source.owned else (0, 0)

    def _mode_of(self, item: Item) -> int:
        mode = stat.S_IMODE(item.status.st_mode)
        return modes.change(mode, self._order.chmod, directory=stat.S_ISDIR(item.status.st_mode)) if self._order.chmod else mode


def _make_room(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise Invalid(f"copying the file {name}: a directory is there; end the destination with / to copy into it") from None


def _owner(root: int, chown: str) -> tuple[int, int] | None:
    """Names are those of the image's own files; a number alone is the group's, too."""
    if not chown:
        return None
    user, _, group = chown.partition(":")
    if user.isdigit() and not group:
        return int(user), int(user)
    found = users.identify(root, User(username=chown))
    return found.uid, found.gid
