"""Blobs: content kept under its own digest. What is there under a name was verified before it got the name."""

from __future__ import annotations

import contextlib
import hashlib
import os

from bayplan.errors import Invalid, NotFound
from bayplan.model.digest import Digest
from bayplan.store.root import StateRoot
from bayplan.store.staging import claimed


def digest_of(data: bytes, *, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def verify(data: bytes, digest: Digest, *, what: str) -> bytes:
    """The data itself, if it has this digest; raises Invalid."""
    found = digest_of(data, algorithm=digest.algorithm)
    if found != digest:
        raise Invalid(f"{what} has the digest {found} where {digest} was asked for: it was damaged or changed on its way")
    return data


def exists(root: StateRoot, digest: Digest) -> bool:
    return os.path.lexists(root.blob(digest))


def put(root: StateRoot, digest: Digest, data: bytes) -> None:
    """Keep a small blob durably; raises Invalid if the data has another digest. One that is there is left alone."""
    verify(data, digest, what="a blob")
    if exists(root, digest):
        return
    with claimed(root, f"blob-{digest.hex}") as directory:
        file = create(f"{directory}/blob")
        try:
            write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        commit(root, f"{directory}/blob", digest)


def create(path: str) -> int:
    """A descriptor of a new file that nobody else has."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_all(file: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def read(root: StateRoot, digest: Digest, *, limit: int) -> bytes:
    """A small blob, verified again; raises NotFound, or Invalid if it is over `limit` bytes or was changed on disk."""
    try:
        with open(root.blob(digest), "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(f"reading the blob {digest}: it is not in the store; pull the image again") from None
    if len(data) > limit:
        raise Invalid(f"reading the blob {digest}: it is over the limit of {limit} bytes")
    return verify(data, digest, what="the stored blob")


def open_blob(root: StateRoot, digest: Digest) -> int:
    """A descriptor for reading a blob of any size; raises NotFound."""
    try:
        return os.open(root.blob(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise NotFound(f"opening the blob {digest}: it is not in the store; pull the image again") from None


def size(root: StateRoot, digest: Digest) -> int:
    """How many bytes the stored blob has; raises NotFound."""
    try:
        return os.lstat(root.blob(digest)).st_size
    except FileNotFoundError:
        raise NotFound(f"looking at the blob {digest}: it is not in the store; pull the image again") from None


def remove(root: StateRoot, digest: Digest) -> None:
    """Remove a blob; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(root.blob(digest))


def listed(root: StateRoot) -> tuple[Digest, ...]:
    """Every stored blob, for a sweep."""
    found = []
    for algorithm in ("sha256", "sha512"):
        with contextlib.suppress(FileNotFoundError):
            found += [Digest(algorithm, name) for name in os.listdir(f"{root.blobs}/{algorithm}")]
    return tuple(sorted(found))


def commit(root: StateRoot, path: str, digest: Digest) -> None:
    """Give a verified file, already written to the disk, its name in the store."""
    final = root.blob(digest)
    os.rename(path, final)
    sync_directory(os.path.dirname(final))


def sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Check:
    """Content that passes by, and must end up with this size and digest."""

    def __init__(self, digest: Digest, *, size: int) -> None:
        self.seen = 0
        self._digest = digest
        self._size = size
        self._hash = hashlib.new(digest.algorithm)

    def take(self, data: bytes | memoryview) -> None:
        """Look at more; raises Invalid as soon as it is more than was announced."""
        self.seen += len(data)
        if self.seen > self._size:
            raise Invalid(f"the blob {self._digest} is longer than the {self._size} bytes that its descriptor announces")
        self._hash.update(data)

    def finish(self) -> None:
        """Raise Invalid unless size and digest are what they have to be."""
        if self.seen != self._size:
            raise Invalid(f"the blob {self._digest} has {self.seen} bytes, and its descriptor announces {self._size}")
        found = Digest(self._digest.algorithm, self._hash.hexdigest())
        if found != self._digest:
            raise Invalid(f"the blob {self._digest} came with the digest {found}: it was damaged or changed on its way")
