"""The exceptions that a caller may handle, and nothing else raises on purpose.

    BayplanError
     ├── Invalid       what was asked is wrong in itself: a reference, an option, a document, an archive
     ├── NotFound      what was named does not exist
     ├── Conflict      what was asked clashes with what is there: a name, a port, something in use
     ├── Denied        credentials or privileges do not suffice
     │    └── Refused  the host's policy refuses an image: no older copy of it makes up for that
     ├── Unavailable   something outside does not answer, or the host lacks what this needs
     │    └── Full     the disk is full but for its reserve
     └── Kernel        the kernel refused a step; carries its errno

A message says what we were doing, what is wrong with what, and the remedy where it is known:
lower case, one sentence, no trailing full stop.
"""

from __future__ import annotations

import errno


class BayplanError(Exception):
    """Base of everything that a user may be shown; `kind` is its name in a response."""

    kind = "error"


class Invalid(BayplanError):
    kind = "invalid"


class NotFound(BayplanError):
    kind = "not_found"


class Conflict(BayplanError):
    kind = "conflict"


class Denied(BayplanError):
    kind = "denied"


class Refused(Denied):
    pass


class Unavailable(BayplanError):
    kind = "unavailable"


class Full(Unavailable):
    kind = "full"


class Kernel(BayplanError):
    """The kernel refused `doing`; `errno` is its error number."""

    kind = "kernel"

    def __init__(self, doing: str, error: OSError) -> None:
        self.errno = error.errno or 0
        super().__init__(f"{doing}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else ""))


def explain(error: BaseException) -> tuple[str, str]:
    """(kind, message) for a user. A bug of ours says so, with its place, and not as a traceback."""
    if isinstance(error, BayplanError):
        return error.kind, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable.kind, f"writing {error.filename or 'to the state root'}: the disk is full; free some space and try again"
    if isinstance(error, OSError):
        return "kernel", f"{error.filename or 'a system call'}: {error.strerror or error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted; what was done so far stays, run it again to finish"
    if isinstance(error, MemoryError):
        return Unavailable.kind, "out of memory"
    if type(error).__module__ == "sqlite3":
        return Unavailable.kind, f"reading the records (db.sqlite): {error}; nothing is removed: put a backup of that file back"
    return "bug", f"this is a bug in bayplan: {type(error).__name__}: {error} ({place(error)})"


def place(error: BaseException) -> str:
    """file:line of where the error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "nowhere"
