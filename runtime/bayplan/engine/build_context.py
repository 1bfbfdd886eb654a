"""What a build is given: a directory, an archive (a file, standard input, of the web), or a git repository; and the Dockerfile."""

from __future__ import annotations

import os
import sys

from bayplan.build.instructions import Copy, Place
from bayplan.engine import build_content
from bayplan.errors import Invalid, NotFound
from bayplan.kernel import paths
from bayplan.model.late import late
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bayplan.engine import build_add
    from bayplan.engine.build_content import Source
    from bayplan.engine.build_site import Site
else:
    build_add = late("bayplan.engine.build_add")

_NAMES = ("Dockerfile", "Containerfile")
_FILE_LIMIT = 2 << 20
_IGNORE = ".dockerignore"
_CHUNK = 1 << 20


class Context(NamedTuple):
    """`directory` holds the context's files, `name` is what messages call the Dockerfile, `excludes` says which files stay behind, `skips`
    which directories with all that is in them."""

    directory: str
    dockerfile: bytes
    name: str
    excludes: Callable[[str], bool] = build_content.nothing
    skips: Callable[[str], bool] = build_content.nothing


def open_context(site: Site, context: str, dockerfile: str) -> Context:
    """`context` is a directory, an archive, "-" or an address; `dockerfile` a path (of the caller's, else in the context), "-", or "" for
    the usual. What has to be fetched lies in a step's directory of `site`. Raises NotFound, Invalid, Unavailable."""
    if context == "-":
        if dockerfile == "-":
            raise Invalid("building: context and Dockerfile cannot both be standard input")
        return _standard_input(site, dockerfile)
    if not os.path.exists(context) and build_add.is_remote(context):
        return _remote(site, context, dockerfile)
    if os.path.isfile(context):
        return _archive(site, os.path.abspath(context), dockerfile)
    if not os.path.isdir(context):
        raise NotFound(f"building {context}: the context is a directory, an archive, - or an address, and there is nothing of this name")
    return _local(os.path.abspath(context), dockerfile)


def _local(directory: str, dockerfile: str) -> Context:
    if dockerfile == "-":
        return Context(directory, _bounded(sys.stdin.buffer.read(_FILE_LIMIT + 1), "-"), "-", *_ignored(directory, b""))
    path = dockerfile if dockerfile and os.path.exists(dockerfile) else ""
    if not path:
        return _inside(directory, dockerfile)
    with open(path, "rb") as file:
        data = _bounded(file.read(_FILE_LIMIT + 1), path)
    name = os.path.relpath(path, directory) if _beneath(path, directory) else path
    return Context(directory, data, name, *_ignored(directory, _beside(path)))


def _beneath(path: str, directory: str) -> bool:
    return os.path.abspath(path).startswith(f"{directory.rstrip('/')}/")


def _inside(directory: str, dockerfile: str) -> Context:
    """The Dockerfile is one of the context's files, which may be a stranger's: links stay inside."""
    root = build_content.open_root(directory)
    try:
        for name in (dockerfile,) if dockerfile else _NAMES:
            data = _read(root, name)
            if data is not None:
                return Context(directory, _bounded(data, name), name, *_ignored(directory, _read(root, f"{name}.dockerignore") or b""))
    finally:
        os.close(root)
    raise NotFound(f"building {directory}: there is no {dockerfile or ' and no '.join(_NAMES)} in it; name one with --file")


def _read(root: int, path: str) -> bytes | None:
    try:
        fd = paths.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Invalid(f"reading {path} of the context: {error.strerror}") from error
    try:
        return os.read(fd, _FILE_LIMIT + 1)
    except OSError as error:
        raise Invalid(f"reading {path} of the context: {error.strerror}") from error
    finally:
        os.close(fd)


def _beside(path: str) -> bytes:
    try:
        with open(f"{path}.dockerignore", "rb") as file:
            return file.read(_FILE_LIMIT + 1)
    except FileNotFoundError:
        return b""


def _bounded(data: bytes, what: str) -> bytes:
    if len(data) > _FILE_LIMIT:
        raise Invalid(f"reading {what}: it is larger than {_FILE_LIMIT} bytes")
    return data


def _ignored(directory: str, own: bytes) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """By the Dockerfile's `own` file, else by .dockerignore."""
    if not own:
        root = build_content.open_root(directory)
        try:
            own = _read(root, _IGNORE) or b""
        finally:
            os.close(root)
    if not own:
        return build_content.nothing, build_content.nothing
    from bayplan.build import ignore

    patterns = ignore.parse(_bounded(own, _IGNORE))
    return patterns.excludes, patterns.skips


def _standard_input(site: Site, dockerfile: str) -> Context:
    """An archive of the context, or a Dockerfile alone."""
    directory = site.step_directory()
    with open(f"{directory}/input", "wb") as file:
        while chunk := sys.stdin.buffer.read(_CHUNK):
            file.write(chunk)
    return _fetched(site, _archive_at(f"{directory}/input"), dockerfile, "-")


def _archive_at(path: str) -> Source:
    root = build_content.open_root(os.path.dirname(path))
    return build_content.Source(root, os.path.basename(path), build_content.nothing, unpack=True)


def _archive(site: Site, path: str, dockerfile: str) -> Context:
    """A Dockerfile by its absolute path lies beside the archive, any other one in it."""
    top = build_add.extracted(site, _archive_at(path))
    if not top:
        raise Invalid(f"building {path}: it is neither a directory nor an archive")
    return _local(top, dockerfile) if os.path.isabs(dockerfile) else _inside(top, dockerfile)


def _remote(site: Site, address: str, dockerfile: str) -> Context:
    wanted = Copy(Place(0, 0, address), (address,), "/context", add=True, unpack=True)
    (source,) = build_add.fetched(site, wanted, (address,), ())
    return _fetched(site, source, dockerfile, address)


def _fetched(site: Site, source: Source, dockerfile: str, name: str) -> Context:
    top = build_add.extracted(site, source)
    if top:
        return _inside(top, dockerfile)
    empty = site.step_directory()
    data = b"".join(_some(build_add.chunks(source)))
    return Context(empty, _bounded(data, name), name)


def _some(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        yield chunk
        if size > _FILE_LIMIT:
            return
