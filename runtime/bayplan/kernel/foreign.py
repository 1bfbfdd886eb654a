"""What linux.py needs of ctypes, made of `_ctypes`, which ctypes wraps: the package takes 2 ms to load, and this 0.6.

Functions of libc set errno for `get_errno`; those of `libc_locked`, and the interpreter's own, keep the interpreter's lock.
"""

from __future__ import annotations

from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes
    from ctypes import addressof, c_char_p, c_long, c_size_t, c_uint32, c_ulong, create_string_buffer, get_errno

    libc = ctypes.CDLL(None, use_errno=True)
    libc_locked = ctypes.PyDLL(None, use_errno=True)
    interpreter = ctypes.pythonapi
else:
    import _ctypes
    from _ctypes import addressof, get_errno

    class c_int(_ctypes._SimpleCData):
        _type_ = "i"

    class c_uint32(_ctypes._SimpleCData):
        _type_ = "I"

    class c_long(_ctypes._SimpleCData):
        _type_ = "l"

    class c_ulong(_ctypes._SimpleCData):
        _type_ = "L"

    c_size_t = c_ulong

    class c_char(_ctypes._SimpleCData):
        _type_ = "c"

    class c_char_p(_ctypes._SimpleCData):
        _type_ = "z"

    def create_string_buffer(content, size=0):
        """Memory that begins with the bytes `content`, or of the size that is given as a number."""
        if isinstance(content, int):
            return (c_char * content)()
        buffer = (c_char * (size or len(content) + 1))()
        buffer.raw = content
        return buffer

    class _Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = c_int

    class _LockedFunction(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO | _ctypes.FUNCFLAG_PYTHONAPI
        _restype_ = c_int

    class _InterpretersFunction(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
        _restype_ = None

    class _Library:
        """Its functions are attributes; the name None is this process, in which libc and the interpreter are."""

        def __init__(self, kind):
            self._handle, self._kind = _ctypes.dlopen(None, 0), kind

        def __getattr__(self, name):
            found = self._kind((name, self))
            setattr(self, name, found)
            return found

    libc, libc_locked, interpreter = _Library(_Function), _Library(_LockedFunction), _Library(_InterpretersFunction)

__all__ = [
    "addressof",
    "c_char_p",
    "c_long",
    "c_size_t",
    "c_uint32",
    "c_ulong",
    "create_string_buffer",
    "get_errno",
    "interpreter",
    "libc",
    "libc_locked",
]
