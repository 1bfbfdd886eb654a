"""The options of a mount, as mount(8) spells them and runtime-spec 1.2 lists them (config.md, "Linux mount options"): what they mean,
and how a mount that is there is given its flags (also all mounts beneath it) and its propagation (mount_namespaces(7))."""

from __future__ import annotations

import errno
import os

from bayplan.errors import Invalid
from bayplan.kernel import linux
from bayplan.model.value import NamedTuple

_SET = {
    "ro": linux.MS_RDONLY,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "sync": linux.MS_SYNCHRONOUS,
    "remount": linux.MS_REMOUNT,
    "mand": linux.MS_MANDLOCK,
    "dirsync": linux.MS_DIRSYNC,
    "nosymfollow": linux.MS_NOSYMFOLLOW,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC,
    "silent": linux.MS_SILENT,
    "relatime": linux.MS_RELATIME,
    "iversion": linux.MS_I_VERSION,
    "strictatime": linux.MS_STRICTATIME,
    "lazytime": linux.MS_LAZYTIME,
}
_CLEAR = {"rw": linux.MS_RDONLY, "suid": linux.MS_NOSUID, "dev": linux.MS_NODEV, "exec": linux.MS_NOEXEC}
_CLEAR.update({"async": linux.MS_SYNCHRONOUS, "nomand": linux.MS_MANDLOCK, "symfollow": linux.MS_NOSYMFOLLOW})
_CLEAR.update({"atime": linux.MS_NOATIME, "diratime": linux.MS_NODIRATIME, "norelatime": linux.MS_RELATIME, "loud": linux.MS_SILENT})
_CLEAR.update({"noiversion": linux.MS_I_VERSION, "nostrictatime": linux.MS_STRICTATIME, "nolazytime": linux.MS_LAZYTIME})
_PROPAGATION = {
    "private": linux.MS_PRIVATE,
    "slave": linux.MS_SLAVE,
    "shared": linux.MS_SHARED,
    "unbindable": linux.MS_UNBINDABLE,
}
_PROPAGATION.update({"r" + name: flag | linux.MS_REC for name, flag in list(_PROPAGATION.items())})
_RECURSIVE = {
    "rro": linux.MOUNT_ATTR_RDONLY,
    "rnosuid": linux.MOUNT_ATTR_NOSUID,
    "rnodev": linux.MOUNT_ATTR_NODEV,
    "rnoexec": linux.MOUNT_ATTR_NOEXEC,
    "rnodiratime": linux.MOUNT_ATTR_NODIRATIME,
    "rnosymfollow": linux.MOUNT_ATTR_NOSYMFOLLOW,
}
_RECURSIVE_CLEAR = {
    "rrw": linux.MOUNT_ATTR_RDONLY,
    "rsuid": linux.MOUNT_ATTR_NOSUID,
    "rdev": linux.MOUNT_ATTR_NODEV,
    "rexec": linux.MOUNT_ATTR_NOEXEC,
    "rdiratime": linux.MOUNT_ATTR_NODIRATIME,
    "rsymfollow": linux.MOUNT_ATTR_NOSYMFOLLOW,
}
# One field of three values, of which relatime is 0: mount_setattr(2) wants the field cleared before it is set. "Not that one" is relatime.
_RECURSIVE_ATIME = {"rnoatime": linux.MOUNT_ATTR_NOATIME, "rstrictatime": linux.MOUNT_ATTR_STRICTATIME}
_RECURSIVE_ATIME.update({"rrelatime": 0, "rnorelatime": 0, "ratime": 0, "rnostrictatime": 0})
_EXTENSIONS = ("tmpcopyup", "idmap", "ridmap")
_RARE = (*_RECURSIVE, *_RECURSIVE_CLEAR, *_RECURSIVE_ATIME, *_EXTENSIONS)
OPTIONS = (*_SET, *_CLEAR, *_PROPAGATION, *_RARE, "defaults")
_NOTHING = ("defaults", "nofail")  # of fstab(5): what a mount is without options, and a word for whoever reads that file

_SAME = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_NODIRATIME  # statvfs(3) has mount(2)'s bits
_ATIMES = linux.MS_NOATIME | linux.MS_RELATIME | linux.MS_STRICTATIME
_ST_NOATIME, _ST_RELATIME, _ST_NOSYMFOLLOW = 1024, 4096, 8192
PER_MOUNT = _SAME | _ATIMES | linux.MS_NOSYMFOLLOW


class Options(NamedTuple):
    """A mount's options, sorted: mount(2)'s flags to set and to clear, its propagation flags in order, MOUNT_ATTR_* to set and to
    clear in all mounts beneath, the file system's own `data`, and the specification's: `copy_up`, and `idmap` as its word."""

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    recursive: int = 0
    recursive_cleared: int = 0
    data: str = ""
    copy_up: bool = False
    idmap: str = ""


def parse_options(options: tuple[str, ...]) -> Options:
    """What each word means; the later one wins. A word that is none of the specification's belongs to the file system."""
    flags = cleared = 0
    propagation, rest = [], []
    for option in options:
        if option in _SET:
            flags, cleared = flags | _SET[option], cleared & ~_SET[option]
        elif option in _CLEAR:
            flags, cleared = flags & ~_CLEAR[option], cleared | _CLEAR[option]
        elif option in _PROPAGATION:
            propagation.append(_PROPAGATION[option])
        elif option not in _NOTHING:
            rest.append(option)
    data = [option for option in rest if option not in _RARE]
    parsed = Options(flags, cleared, tuple(propagation), data=",".join(data))
    return parsed if len(data) == len(rest) else _with_rare(parsed, rest)


def _with_rare(parsed: Options, words: list[str]) -> Options:
    """With what is recursive, and the specification's own words."""
    for word in words:
        if word in _EXTENSIONS:
            parsed = parsed._replace(copy_up=True) if word == "tmpcopyup" else parsed._replace(idmap=word)
        elif word in _RARE:
            parsed = _add_recursive(parsed, word)
    return parsed


def _add_recursive(parsed: Options, option: str) -> Options:
    given, taken, field = _RECURSIVE.get(option, 0), _RECURSIVE_CLEAR.get(option, 0), 0
    if option in _RECURSIVE_ATIME:
        given, field = _RECURSIVE_ATIME[option], linux.MOUNT_ATTR_ATIME
    kept = parsed.recursive & ~taken & ~field
    return parsed._replace(recursive=kept | given, recursive_cleared=parsed.recursive_cleared & ~given | taken | field)


def parse_propagation(value: str) -> int:
    """The flags of `linux.rootfsPropagation`; Invalid for a word that is none."""
    if value not in _PROPAGATION:
        raise Invalid(f"mounting the root file system: linux.rootfsPropagation is {value!r}, and {', '.join(_PROPAGATION)} are known")
    return _PROPAGATION[value]


def adjust(top: int, options: Options) -> None:
    """Give the mount whose root is `top` the flags that `options` set and clear, others staying as they are; then what is recursive,
    then propagation. OSError: EPERM for a flag that another user namespace has locked."""
    change(top, options.flags, options.cleared)
    if options.recursive or options.recursive_cleared:
        _change_all(top, options)
    for flags in options.propagation:
        linux.mount("", f"/proc/self/fd/{top}", "", flags)


def change(top: int, given: int, cleared: int) -> None:
    """Set and clear MS_* of one mount. mount(2) would take away what it is not told again."""
    has = _flags(top)
    wanted = (has & ~_ATIMES | given & PER_MOUNT & ~_ATIMES) & ~cleared | _atime(has, given, cleared)
    if wanted != has:
        linux.mount("", f"/proc/self/fd/{top}", "", linux.MS_REMOUNT | linux.MS_BIND | wanted)


def _flags(top: int) -> int:
    found = os.fstatvfs(top).f_flag
    atime = linux.MS_NOATIME if found & _ST_NOATIME else linux.MS_RELATIME if found & _ST_RELATIME else linux.MS_STRICTATIME
    return found & _SAME | atime | (linux.MS_NOSYMFOLLOW if found & _ST_NOSYMFOLLOW else 0)


def _atime(has: int, given: int, cleared: int) -> int:
    """One of the three: the kernel takes strictatime for the strongest, and noatime before relatime."""
    for flag in (linux.MS_STRICTATIME, linux.MS_NOATIME, linux.MS_RELATIME):
        if given & flag:
            return flag
    if has & cleared & _ATIMES:
        return linux.MS_STRICTATIME if has & linux.MS_RELATIME else linux.MS_RELATIME
    return has & _ATIMES


def _change_all(top: int, options: Options) -> None:
    try:
        linux.mount_setattr(top, set_flags=options.recursive, clear=options.recursive_cleared, recursive=True)
        return
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    given, cleared = _as_flags(options.recursive), _as_flags(options.recursive_cleared & ~linux.MOUNT_ATTR_ATIME)
    if options.recursive_cleared & linux.MOUNT_ATTR_ATIME and not given & _ATIMES:
        given |= linux.MS_RELATIME
    for path in submounts(os.readlink(f"/proc/self/fd/{top}")):  # before Linux 5.12: one by one
        fd = os.open(path, linux.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        change(fd, given, cleared)
        os.close(fd)


def _as_flags(attributes: int) -> int:
    """MOUNT_ATTR_* as MS_*: the first four have one value."""
    flags = attributes & (linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    for attribute, flag in (
        (linux.MOUNT_ATTR_NOATIME, linux.MS_NOATIME),
        (linux.MOUNT_ATTR_STRICTATIME, linux.MS_STRICTATIME),
        (linux.MOUNT_ATTR_NODIRATIME, linux.MS_NODIRATIME),
        (linux.MOUNT_ATTR_NOSYMFOLLOW, linux.MS_NOSYMFOLLOW),
    ):
        flags |= flag if attributes & attribute else 0
    return flags


def submounts(path: str) -> list[str]:
    """The mount points at and beneath `path` of this process, from its mountinfo (proc(5))."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [_unescape(line.split(" ")[4]) for line in file]
    return [point for point in points if point == path or point.startswith(path.rstrip("/") + "/")]


def _unescape(field: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field
