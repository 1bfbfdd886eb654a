"""C libraries that the store uses: libzstd, and the one call of libc that Python does not wrap."""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def syncfs(descriptor: int) -> None:
    """syncfs(2): write everything of the descriptor's file system to its device; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class ZstdBuffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer, which have the same shape."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))


def load_libzstd() -> ctypes.CDLL:
    """libzstd with its streaming interface (zstd.h, "Streaming compression" and "Streaming decompression"), which is stable since 1.4."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(ZstdBuffer), ctypes.POINTER(ZstdBuffer)]
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    library.ZSTD_DCtx_setParameter.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.ZSTD_createCStream.restype = ctypes.c_void_p
    library.ZSTD_freeCStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_CCtx_setParameter.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.ZSTD_compressStream2.restype = ctypes.c_size_t
    library.ZSTD_compressStream2.argtypes = [ctypes.c_void_p, ctypes.POINTER(ZstdBuffer), ctypes.POINTER(ZstdBuffer), ctypes.c_int]
    return library


def try_overlay(directory: str, options: str) -> int:
    """Mount an overlay on `directory` in a mount namespace of a process of its own; the errno, 0 where it works.

    `options` is relative to `directory`. Nothing is left mounted: the namespace ends with the process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        os.chdir(directory)
        ok = libc.unshare(_CLONE_NEWNS) == 0 and libc.mount(b"", b"/", b"", _MS_REC | _MS_PRIVATE, b"") == 0
        ok = ok and libc.mount(b"overlay", b"merged", b"overlay", 0, options.encode()) == 0
        os._exit(0 if ok else min(ctypes.get_errno(), 255) or 255)
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 255
