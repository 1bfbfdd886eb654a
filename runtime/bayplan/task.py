"""The door of Ansible and pyinfra on the host: a request as JSON in, a task's result out."""

from __future__ import annotations

from typing import Any

from bayplan.dispatch import handle
from bayplan.errors import BayplanError
from bayplan.model.result import Response, parse_request, response_document


def run_task(document: object) -> dict[str, Any]:
    """Run one request. The result has `changed`, `steps`, `result`, `warnings`, `diff` where asked, `failed` and `msg` on an error."""
    try:
        request = parse_request(document)
    except BayplanError as error:
        return {"failed": True, "changed": False, "msg": str(error)}
    return task_result(handle(request), diff=request.diff)


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
