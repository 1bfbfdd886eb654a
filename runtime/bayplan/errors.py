"""The exceptions that a caller may handle, and nothing else raises on purpose.

    BayplanError
     ├── Invalid       what was asked is wrong in itself: a reference, an option, a document, an archive
     ├── NotFound      what was named does not exist
     ├── Conflict      what was asked clashes with what is there: a name, a port, something in use
     ├── Denied        credentials or privileges do not suffice
     ├── Unavailable   something outside does not answer, or the host lacks what this needs
     └── Kernel        the kernel refused a step; carries its errno

A message says what we were doing, what is wrong with what, and the remedy where it is known:
lower case, one sentence, no trailing full stop.
"""

from __future__ import annotations


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


class Unavailable(BayplanError):
    kind = "unavailable"


class Kernel(BayplanError):
    """The kernel refused `doing`; `errno` is its error number."""

    kind = "kernel"

    def __init__(self, doing: str, error: OSError) -> None:
        self.errno = error.errno or 0
        super().__init__(f"{doing}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else ""))
