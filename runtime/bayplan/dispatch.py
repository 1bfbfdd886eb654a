"""From a request to its response: finds the handler, and is the one place that catches everything."""

from __future__ import annotations

import errno
import os

from bayplan.errors import BayplanError, Denied, Invalid, Unavailable
from bayplan.model.result import Request, Response

HANDLERS = {"converge": "bayplan.engine.converge:converge", "info": "bayplan.engine.info:info"}


def handle(request: Request) -> Response:
    """Do what the request asks; never raises, what went wrong is in `error`."""
    try:
        require_root()
        return _handler(request.verb)(request)
    except BaseException as error:
        return Response(error=explain(error))


def require_root() -> None:
    if os.geteuid() != 0:
        raise Denied("working on this host: bayplan makes namespaces, mounts and bridges, which takes root; use become or sudo")


def _handler(verb: str):  # type: ignore[no-untyped-def]
    if verb not in HANDLERS:
        raise Invalid(f"handling a request: there is no verb {verb!r}; known are {', '.join(sorted(HANDLERS))}")
    module, _, name = HANDLERS[verb].partition(":")
    return getattr(__import__(module, fromlist=[name]), name)


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
    return "bug", f"this is a bug in bayplan: {type(error).__name__}: {error} ({place(error)})"


def place(error: BaseException) -> str:
    """file:line of where the error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "nowhere"
