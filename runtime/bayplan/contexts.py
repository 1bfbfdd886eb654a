"""A build's context on a controller: what of it travels to the host, as one archive, and a Dockerfile that lies outside of it."""

from __future__ import annotations

import os
import tarfile

from bayplan.build import ignore
from bayplan.errors import Invalid, NotFound
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_NAMES = ("Dockerfile", "Containerfile")
_IGNORE = ".dockerignore"
_FILE_LIMIT = 2 << 20
LARGEST_CONTEXT = 20 << 30
MOST_FILES = 1_000_000


class Dockerfile(NamedTuple):
    """`path` in the context, "" for the usual; or, with a `text`, one that lies elsewhere, and `ignore` what lies beside it."""

    path: str = ""
    text: str | None = None
    ignore: str = ""


def find_dockerfile(directory: str, path: str, *, base: str) -> Dockerfile:
    """The file that somebody calls `path`: relative to the context `directory`, else to `base`. Raises NotFound, Invalid."""
    full = os.path.abspath(os.path.join(directory, path))
    if not path or (full.startswith(f"{os.path.abspath(directory)}/") and os.path.isfile(full)):
        return Dockerfile(os.path.relpath(full, directory) if path else "")
    elsewhere = os.path.abspath(os.path.join(base, path))
    if not os.path.isfile(elsewhere):
        raise NotFound(f"building {directory}: there is no Dockerfile {path}, neither in it nor in {base}")
    return Dockerfile("", _text(elsewhere), _text(f"{elsewhere}.dockerignore") if os.path.exists(f"{elsewhere}.dockerignore") else "")


def pack(directory: str, target: str, dockerfile: Dockerfile, *, largest: int = LARGEST_CONTEXT) -> None:
    """Write what the host needs of a context to `target`, a compressed archive that belongs to root.

    What .dockerignore leaves out stays here, but for the Dockerfile and that file itself: the host reads both. Links are carried as links.
    Raises NotFound where there is no such directory, Invalid where it is too large or changes meanwhile.
    """
    if not os.path.isdir(directory):
        raise NotFound(f"reading the context {directory}: there is no such directory on the controller")
    size = 0
    try:
        with tarfile.open(target, "w:gz", compresslevel=1) as archive:
            for count, path in enumerate(_carried(directory, dockerfile), 1):
                size += _add(archive, f"{directory}/{path}", path)
                if size > largest or count > MOST_FILES:
                    raise Invalid(
                        f"reading the context {directory}: it has over {largest >> 20} MiB, or {MOST_FILES} files; "
                        f"name in {_IGNORE} what the build does not need"
                    )
    except (OSError, tarfile.TarError) as error:
        raise Invalid(f"reading the context {directory}: {error}") from error


def _add(archive: tarfile.TarFile, path: str, name: str) -> int:
    """Add one file; returns its size. A socket is nothing to carry."""
    entry: Any = archive.gettarinfo(path, name)
    if entry is None:
        return 0
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    if not entry.isreg():
        archive.addfile(entry)
        return 0
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        archive.addfile(entry, file)
    return int(entry.size)


def _carried(directory: str, dockerfile: Dockerfile) -> Iterator[str]:
    """Paths in the context, parents first."""
    inside = () if dockerfile.text is not None else (dockerfile.path or _usual(directory),)
    own = dockerfile.ignore.encode() or b"".join(_read(directory, f"{name}{_IGNORE}") for name in inside)
    patterns = ignore.parse(own or _read(directory, _IGNORE))
    always = {_IGNORE, *inside, *(f"{name}{_IGNORE}" for name in inside)}
    for path in _walk(directory, "", patterns, None):
        always.discard(path)
        yield path
    yield from (path for path in sorted(always) if os.path.lexists(f"{directory}/{path}"))


def _usual(directory: str) -> str:
    return next((name for name in _NAMES if os.path.lexists(f"{directory}/{name}")), _NAMES[0])


def _walk(directory: str, below: str, patterns: ignore.Patterns, parent: ignore.Matches | None) -> Iterator[str]:
    with os.scandir(f"{directory}/{below}") as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in found:
        path = f"{below}{name}"
        matches = patterns.matches(path, parent)
        if not matches.excluded:
            yield path
        if is_directory and not patterns.skips(path, matches):
            yield from _walk(directory, f"{path}/", patterns, matches)


def _read(directory: str, name: str) -> bytes:
    try:
        with open(f"{directory}/{name}", "rb") as file:
            return file.read(_FILE_LIMIT + 1)
    except (FileNotFoundError, IsADirectoryError):
        return b""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_FILE_LIMIT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"reading {path}: {error}") from error
    if len(text) > _FILE_LIMIT:
        raise Invalid(f"reading {path}: it is larger than {_FILE_LIMIT} bytes")
    return text
