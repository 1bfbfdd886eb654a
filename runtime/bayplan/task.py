"""The door of Ansible and pyinfra on the host: a request as JSON in, a task's result out."""

from __future__ import annotations

import fcntl
import json
import os
import sys

from bayplan.dispatch import handle
from bayplan.errors import BayplanError
from bayplan.model.result import Request, Response, parse_request, response_document
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

SECTIONS = {"container": "services", "network": "networks", "volume": "volumes"}


def run_task(document: dict[str, Any]) -> dict[str, Any]:
    """Run one request. The result has `changed`, `steps`, `result`, `warnings`, `diff` where asked, `failed` and `msg` on an error.

    A request may `tell` a kind: then `result` says what is there afterwards of the one resource that it declares.
    """
    kind = document.pop("tell", "")
    try:
        request = parse_request(document)
    except BayplanError as error:
        return {"failed": True, "changed": False, "msg": str(error)}
    response = handle(request)
    if kind and not response.error:
        told = handle(Request("info", {"kind": kind, "names": _declared(request, kind)}, root=request.root))
        response = response._replace(result=told.result[0] if told.result else None)
    return task_result(response, diff=request.diff)


def _declared(request: Request, kind: str) -> list[str]:
    """The name of the one resource that a task's request declares."""
    section = request.want["x-bayplan"]["images"] if kind == "image" else request.want[SECTIONS[kind]]
    return list(section)


def task_result(response: Response, *, diff: bool) -> dict[str, Any]:
    """A response in the words of Ansible; before and after are mappings, which it shows as YAML."""
    document = response_document(response)
    result = {key: document[key] for key in ("changed", "steps", "result")}
    if document["warnings"]:
        result["warnings"] = document["warnings"]
    if diff and (document["before"] or document["after"]):
        result["diff"] = {"before": document["before"], "after": document["after"]}
    if response.error:
        kind, message = response.error
        result.update(failed=True, msg=message, error=kind)
    return result


def main(arguments: list[str]) -> None:
    """`request FILE` runs the request in a file, which is removed first; `info KIND ROOT [NAME...]` tells what is there.

    The result is printed as JSON, with what went wrong in it: the exit status is 0 whenever there is one.
    """
    if arguments[0] == "request":
        with open(arguments[1], encoding="utf-8") as file:
            os.unlink(arguments[1])
            document = json.load(file)
    else:
        _, kind, root, *names = arguments
        document = {"verb": "info", "want": {"kind": kind, "names": names}, "root": root}
    json.dump(run_task(document), sys.stdout)


def run_in_place(runtime: str, arguments: list[str]) -> None:
    """`main`, with the runtime held against being swept meanwhile. Where `runtime` is an archive there is nothing to hold."""
    if os.path.isdir(runtime):
        lock = os.open(f"{runtime}/lock", os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(lock)  # used now: it is kept for a day
    main(arguments)
