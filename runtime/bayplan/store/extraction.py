"""Unpacking a hostile archive in a process of its own that has no other root than the layer's empty directory.

    extraction = start(directory, algorithm=..., room=...)
    extraction.feed(compressed bytes) ...
    report = extraction.finish()

The process decompresses, hashes and unpacks; it gets nothing but the bytes, and its report is in a file in memory
that was opened before it changed its root.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import queue
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from bayplan import errors
from bayplan.errors import BayplanError, Invalid, Kernel
from bayplan.model.digest import Digest
from bayplan.model.value import NamedTuple
from bayplan.store import codecs
from bayplan.store.room import Watch
from bayplan.store.tar import Stream
from bayplan.store.unpack import apply

_AHEAD = 4  # chunks of a megabyte each, between the thread that inflates and the one that unpacks
_PIPE = 1 << 20
_F_SETPIPE_SZ = 1031


class Report(NamedTuple):
    """What was unpacked: the digest and size of the plain archive, and what store/layers.py wants to know of it."""

    diff_id: Digest
    size: int
    entries: int
    implied: tuple[str, ...]
    opaque: bool


class Extraction:
    """The running process. Either `finish` or `abort` ends it; nothing of it is left then but the files."""

    def __init__(self, pid: int, source: int, report: int) -> None:
        self._pid = pid
        self._source = source
        self._report = report

    def feed(self, data: bytes | memoryview) -> None:
        """Hand over more of the compressed archive; raises what the process found wrong with what it had before."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._source, view) :]
        except BrokenPipeError:
            self.finish()
            raise Invalid("unpacking: the process ended before the archive did") from None

    def finish(self) -> Report:
        """Wait until everything is unpacked; raises Invalid or Kernel with what was wrong."""
        self._close_source()
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        with open(self._report, "rb") as file:
            file.seek(0)
            document = json.loads(file.read() or b"null")
        return _parse_report(document, status)

    def abort(self) -> None:
        """End the process, whatever it was doing; ending it twice is no error."""
        self._close_source()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._report)
            self._pid = 0

    def _close_source(self) -> None:
        if self._source >= 0:
            os.close(self._source)
            self._source = -1


def start(tree: str, *, algorithm: str, room: int) -> Extraction:
    """Start a process that unpacks into the empty directory `tree`, at most `room` bytes.

    The caller has no threads at this moment: the process is a fork of it.
    """
    import fcntl

    reading, writing = os.pipe()
    fcntl.fcntl(writing, _F_SETPIPE_SZ, _PIPE)
    result = os.memfd_create("report")  # a file would have no room on a full disk
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        _run(tree, reading, result, algorithm, room)
    os.close(reading)
    return Extraction(pid, writing, result)


def _run(tree: str, source: int, result: int, algorithm: str, room: int) -> NoReturn:
    """The life of the process. It never returns into the code of the one that it was forked from."""
    status = 1
    document: dict[str, Any] = {"kind": "bug", "message": "it was ended"}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        document = _unpack(tree, source, algorithm, room)
        status = 0
    except BayplanError as error:
        document = {"kind": error.kind, "message": str(error)}
    except OSError as error:
        entry = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "the archive"
        document = {"kind": "kernel", "message": f"unpacking {entry!r}", "errno": error.errno or 0}
    except MemoryError:
        document = {"kind": "kernel", "message": "unpacking", "errno": errno.ENOMEM}
    except BaseException as error:
        document = {"kind": "bug", "message": repr(error)}
    finally:
        try:
            os.write(result, json.dumps(document).encode())
        finally:
            os._exit(status)


def _unpack(tree: str, source: int, algorithm: str, room: int) -> dict[str, Any]:
    chunks = _chunks(source)
    head = next(chunks, b"")
    decode = codecs.decoder(codecs.compression(head))  # looks for libraries, so before the root changes
    digest = hashlib.new(algorithm)
    os.umask(0)
    os.chroot(tree)
    os.chdir("/")
    watch = Watch("/", "unpacking a layer")

    def seen(chunk: bytes) -> None:
        digest.update(chunk)
        watch.take(len(chunk))

    stream = Stream(_in_thread(decode(_joined(head, chunks))), seen=seen, limit=room)
    unpacked = apply(stream)
    return {
        "digest": digest.hexdigest(),
        "algorithm": algorithm,
        "size": stream.size,
        "entries": unpacked.entries,
        "implied": [os.fsdecode(path) for path in unpacked.implied],
        "opaque": unpacked.opaque,
    }


def _chunks(source: int) -> Iterator[bytes]:
    while True:
        chunk = os.read(source, codecs.CHUNK)
        if not chunk:
            return
        yield chunk


def _joined(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _in_thread(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, made by a thread that works ahead: inflating releases Python's lock."""
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)

    def produce() -> None:
        try:
            for chunk in chunks:
                waiting.put(chunk)
            waiting.put(None)
        except BaseException as error:
            waiting.put(error)

    threading.Thread(target=produce, daemon=True).start()
    while True:
        chunk = waiting.get()
        if chunk is None:
            return
        if isinstance(chunk, BaseException):
            raise chunk
        yield chunk


def _parse_report(document: Any, status: int) -> Report:
    if not isinstance(document, dict):
        raise Invalid(f"unpacking: the process ended without a report (wait status {status}); is there enough memory?")
    if "kind" not in document:
        return Report(
            Digest(document["algorithm"], document["digest"]),
            document["size"],
            document["entries"],
            tuple(document["implied"]),
            document["opaque"],
        )
    if document["kind"] == "kernel":
        raise Kernel(document["message"], OSError(document["errno"], os.strerror(document["errno"])))
    for kind in (errors.Invalid, errors.Unavailable, errors.Full):
        if document["kind"] == kind.kind:
            raise kind(document["message"])
    raise AssertionError(f"the unpacking process failed: {document['message']}")
