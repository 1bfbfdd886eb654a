"""Who a process in a container is: an image's `User`, looked up in the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

import errno
import os
import stat

from bayplan.errors import Invalid, NotFound
from bayplan.kernel import paths
from bayplan.model.runtime import User
from bayplan.model.value import NamedTuple

_LARGEST = 1 << 20
_MAX_ID = (1 << 32) - 2  # -1 means "leave as it is" to setuid's family


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def identify(root: int, user: User) -> Identity:
    """`user` as the files beneath the directory descriptor `root` have it.

    They are opened inside the root, without blocking, and read only if regular and up to 1 MiB (CVE-2024-9676); absent
    or odd files count as empty. Invalid for a malformed `user`, NotFound for a name that the files do not have.
    """
    return resolve(user, read_small(root, "/etc/passwd"), read_small(root, "/etc/group"))


def read_small(root: int, path: str) -> str:
    """The text of a file of the image, or nothing if it is not a regular file of at most 1 MiB."""
    try:
        fd = paths.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES):
            return ""
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            return ""
        return os.read(fd, _LARGEST).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def resolve(user: User, passwd: str, group: str) -> Identity:
    """The pure part of `identify`, over the two files' texts.

    What looks like a number is one, whoever has it for a name in the files (CVE-2016-3697). A `username` has its group among the
    supplementary ones too, as after a login, so that no other group as the process's own takes away what denies it something
    (CVE-2022-36109); the rest are those of the files, if no group was given, and those asked for. Without one the groups are
    exactly `additional_gids` and `additional_groups`.
    """
    if not user.username:
        extra = (*user.additional_gids, *(_group(name, group) for name in user.additional_groups))
        return Identity(user.uid, user.gid, _unique(extra), _home(passwd, user.uid))
    name, colon, group_name = user.username.partition(":")
    if not name and not group_name:
        raise Invalid(f"user {user.username!r} is neither a name nor a number")
    uid, gid, home, login = _account(name or "0", passwd)
    if colon and not group_name:
        raise Invalid(f"user {user.username!r} has an empty group; leave the colon out")
    gid = _group(group_name, group) if group_name else gid
    member_of = () if group_name else tuple(_memberships(login, group))
    extra = (*user.additional_gids, *(_group(name, group) for name in user.additional_groups))
    return Identity(uid, gid, _unique((gid, *member_of, *extra)), home)


def _account(name: str, passwd: str) -> tuple[int, int, str, str]:
    number = _number(name)
    for fields in _records(passwd, 7):
        if fields[0] == name if number is None else fields[2] == str(number):
            return _field(fields[2], passwd), _field(fields[3], passwd), fields[5] or "/", fields[0]
    if number is None:
        raise NotFound(f"user {name!r} is not in the image's /etc/passwd; give its number or another name")
    return number, 0, "/", ""


def _group(name: str, group: str) -> int:
    number = _number(name)
    if number is not None:
        return number
    for fields in _records(group, 4):
        if fields[0] == name:
            return _field(fields[2], group)
    raise NotFound(f"group {name!r} is not in the image's /etc/group; give its number or another name")


def _memberships(login: str, group: str) -> list[int]:
    return [_field(f[2], group) for f in _records(group, 4) if login and login in f[3].split(",") and f[2].isdecimal()]


def _home(passwd: str, uid: int) -> str:
    return next((f[5] or "/" for f in _records(passwd, 7) if f[2] == str(uid)), "/")


def _records(text: str, fields: int) -> list[list[str]]:
    rows = (line.strip().split(":") for line in text.split("\n") if line and not line.startswith(("#", "+", "-")))
    return [row for row in rows if len(row) >= fields and row[0]]


def _number(text: str) -> int | None:
    if not text.lstrip("-").isdecimal() or not text.isascii():
        return None
    if text.startswith("-") or int(text) > _MAX_ID:
        raise Invalid(f"user or group number {text} is out of range 0 to {_MAX_ID}")
    return int(text)


def _field(text: str, file: str) -> int:
    number = _number(text) if text else None
    if number is None:
        raise Invalid(f"the image's user or group file has {text!r} where a number belongs")
    return number


def _unique(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))
