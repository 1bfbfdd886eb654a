"""Decompressing a layer or an archive as it streams by: gzip, zstd, bzip2 and xz, or nothing; and compressing with the first two.

The first bytes decide which it is, not what somebody called it. zstd is the host's libzstd, else its `zstd` command.
"""

from __future__ import annotations

import ctypes
import os
import select
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from bayplan.errors import Invalid, Unavailable
from bayplan.store.native import ZstdBuffer, load_libzstd

CHUNK = 1 << 20
_WINDOW_LOG = 27  # zstd's own limit for streams, 128 MiB of memory: what wants more is refused
_ZSTD_WINDOW_LOG_MAX = 100  # ZSTD_d_windowLogMax
_ZSTD_LEVEL, _ZSTD_CHECKSUM = 100, 201  # ZSTD_c_compressionLevel, ZSTD_c_checksumFlag
_ZSTD_CONTINUE, _ZSTD_END = 0, 2  # ZSTD_EndDirective
_GZIP_LEVEL, _DEFAULT_LEVEL = 6, 3

_MAGICS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))

Chunks = Iterator[bytes]
Decoder = Callable[[Chunks], Chunks]


class Encoder(Protocol):
    """Compresses a stream piece by piece; equal streams become equal ones with the same library, however they were cut into pieces."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes:
        """The rest; the encoder is used up."""


def compression(head: bytes) -> str:
    """gzip, zstd, bzip2, xz, or "" for anything else, by the first bytes; zstd's skippable frames count as zstd."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    skippable = head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F
    return "zstd" if skippable else ""


def decoder(name: str) -> Decoder:
    """What turns a compressed stream into the plain one, in chunks of at most CHUNK bytes or as they came.

    Everything that has to be found on the host is found in this call: raises Unavailable where it is not there. The
    decoder itself raises Invalid where the data is damaged or truncated.
    """
    if name == "zstd":
        return _zstd()
    if name == "bzip2":
        return _bzip2()
    if name == "xz":
        return _xz()
    return _gzip if name == "gzip" else iter


def encoder(name: str) -> Encoder:
    """gzip (with no name and no time in it), zstd, or "" for the bytes as they are. Raises Unavailable where there is no libzstd."""
    if name == "zstd":
        return _ZstdEncoder()
    if name == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 31)
    assert not name, name
    return _Plain()


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _gzip(chunks: Chunks) -> Chunks:
    """RFC 1952, several members in a row included; zeros after the last one are a tape's padding."""
    inflate, between = zlib.decompressobj(wbits=31), False
    for chunk in chunks:
        while True:
            if between:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                inflate, between = zlib.decompressobj(wbits=31), False
            try:
                plain = inflate.decompress(chunk, CHUNK)
            except zlib.error as error:
                raise Invalid(f"its gzip data is damaged ({error})") from error
            if plain:
                yield plain
            between = inflate.eof
            chunk = inflate.unused_data if between else inflate.unconsumed_tail
            if not chunk and len(plain) < CHUNK:
                break
    if not between:
        raise Invalid("its gzip data is truncated")


def _bzip2() -> Decoder:
    try:
        import bz2
    except ImportError as error:
        raise Unavailable("reading bzip2 data: this host's python comes without the module bz2") from error
    return lambda chunks: _by_object(chunks, bz2.BZ2Decompressor, OSError)


def _xz() -> Decoder:
    try:
        import lzma
    except ImportError as error:
        raise Unavailable("reading xz data: this host's python comes without the module lzma") from error

    def start() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=1 << _WINDOW_LOG)

    return lambda chunks: _by_object(chunks, start, lzma.LZMAError)


def _by_object(chunks: Chunks, start: Callable[[], Any], damage: type[Exception]) -> Chunks:
    """The common interface of bz2's and lzma's decompressors."""
    state = start()
    for chunk in chunks:
        while True:
            if state.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                state = start()
            try:
                plain = state.decompress(chunk, CHUNK)
            except (damage, ValueError) as error:
                raise Invalid(f"its compressed data is damaged ({error})") from error
            if plain:
                yield plain
            chunk = state.unused_data if state.eof else b""
            if not chunk and (state.eof or state.needs_input):
                break
    if not state.eof:
        raise Invalid("its compressed data is truncated")


def _zstd() -> Decoder:
    try:
        library = load_libzstd()
    except (OSError, AttributeError):
        for directory in ("/usr/bin", "/usr/local/bin", "/bin"):
            if os.access(f"{directory}/zstd", os.X_OK):
                return _zstd_command(f"{directory}/zstd")
        raise Unavailable("reading zstd data: this host has neither libzstd.so.1 nor the zstd command; install one of them") from None
    return lambda chunks: _zstd_stream(library, chunks)


def _zstd_stream(library: ctypes.CDLL, chunks: Chunks) -> Chunks:
    state = library.ZSTD_createDStream()
    library.ZSTD_DCtx_setParameter(state, _ZSTD_WINDOW_LOG_MAX, _WINDOW_LOG)
    plain = ctypes.create_string_buffer(CHUNK)
    left = 1
    try:
        for chunk in chunks:
            source = ZstdBuffer(ctypes.cast(ctypes.c_char_p(chunk), ctypes.c_void_p).value, len(chunk), 0)
            full = False
            while source.at < source.size or full:
                target = ZstdBuffer(ctypes.addressof(plain), CHUNK, 0)
                left = library.ZSTD_decompressStream(state, ctypes.byref(target), ctypes.byref(source))
                if library.ZSTD_isError(left):
                    raise Invalid(f"its zstd data is damaged ({library.ZSTD_getErrorName(left).decode()})")
                full = target.at == CHUNK and left != 0
                if target.at:
                    yield ctypes.string_at(plain, target.at)
    finally:
        library.ZSTD_freeDStream(state)
    if left:
        raise Invalid("its zstd data is truncated")


class _ZstdEncoder:
    """One frame, with a checksum, at zstd's own default level."""

    def __init__(self) -> None:
        try:
            self._library = load_libzstd()
        except (OSError, AttributeError) as error:
            raise Unavailable("compressing with zstd: this host has no libzstd.so.1; install it, or use gzip") from error
        self._state = self._library.ZSTD_createCStream()
        self._library.ZSTD_CCtx_setParameter(self._state, _ZSTD_LEVEL, _DEFAULT_LEVEL)
        self._library.ZSTD_CCtx_setParameter(self._state, _ZSTD_CHECKSUM, 1)
        self._target = ctypes.create_string_buffer(CHUNK)

    def compress(self, data: bytes, /) -> bytes:
        return self._run(data, _ZSTD_CONTINUE)

    def flush(self) -> bytes:
        try:
            return self._run(b"", _ZSTD_END)
        finally:
            self._library.ZSTD_freeCStream(self._state)

    def _run(self, data: bytes, directive: int) -> bytes:
        source = ZstdBuffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value, len(data), 0)
        parts = []
        while True:
            target = ZstdBuffer(ctypes.addressof(self._target), CHUNK, 0)
            left = self._library.ZSTD_compressStream2(self._state, ctypes.byref(target), ctypes.byref(source), directive)
            if self._library.ZSTD_isError(left):
                raise Unavailable(f"compressing with zstd: {self._library.ZSTD_getErrorName(left).decode()}")
            parts.append(ctypes.string_at(self._target, target.at))
            if left == 0 if directive == _ZSTD_END else source.at == source.size:
                return b"".join(parts)


def _zstd_command(program: str) -> Decoder:
    """The `zstd` command as a filter. It is started here, since its user may change its root before it decodes."""
    import subprocess

    process = subprocess.Popen(
        [program, "-dcq", f"--memory={1 << (_WINDOW_LOG - 20)}MB"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return lambda chunks: _through(process, chunks)


def _through(process: Any, chunks: Chunks) -> Chunks:
    """Feed a filter and read it in turns, so that neither end ever waits for the other."""
    source, target = process.stdin.fileno(), process.stdout.fileno()
    os.set_blocking(source, False)
    for chunk in chunks:
        while chunk:
            readable, writable, _ = select.select([target], [source], [])
            if readable:
                yield os.read(target, CHUNK)
            if writable:
                chunk = chunk[_write_some(source, chunk) :]
    process.stdin.close()
    while True:
        plain = os.read(target, CHUNK)
        if not plain:
            break
        yield plain
    process.stdout.close()
    if process.wait() != 0:
        raise Invalid("its zstd data is damaged or truncated")


def _write_some(target: int, chunk: bytes) -> int:
    try:
        return os.write(target, chunk)
    except BlockingIOError:
        return 0
    except BrokenPipeError as error:
        raise Invalid("its zstd data is damaged") from error
