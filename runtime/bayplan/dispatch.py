"""From a request to its response: finds the handler, and is the one place that catches everything."""

from __future__ import annotations

import os

from bayplan.errors import Denied, Invalid, explain
from bayplan.model.result import Request, Response
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HANDLERS = {
    "converge": "bayplan.engine.converge:converge",
    "info": "bayplan.engine.info:info",
    "build": "bayplan.engine.requests_build:build",
    "login": "bayplan.engine.requests_login:login",
    **{verb: f"bayplan.engine.requests_images:{verb}" for verb in ("copy", "load", "prune", "push", "save", "tag")},
}


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


def _handler(verb: str) -> Callable[[Request], Response]:
    if verb not in HANDLERS:
        raise Invalid(f"handling a request: there is no verb {verb!r}; known are {', '.join(sorted(HANDLERS))}")
    module, _, name = HANDLERS[verb].partition(":")
    found: Callable[[Request], Response] = getattr(__import__(module, fromlist=[name]), name)
    return found
