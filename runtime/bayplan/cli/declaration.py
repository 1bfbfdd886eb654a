"""`plan FILE` and `apply FILE`: the local host against a Compose file."""

from __future__ import annotations

import os

from bayplan.cli.call import Call
from bayplan.cli.output import complain, json_text, printable, write
from bayplan.errors import BayplanError, Denied, Invalid
from bayplan.model.result import Request, Response, Step, response_document
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_CREATING = ("create", "pull", "load", "tag", "connect")
_REMOVING = ("remove", "untag", "disconnect")
_CHANGED_CODE = 2


def plan(call: Call) -> int:
    """Show the steps and do none."""
    response = _converge(call, check=True)
    _show(call, response)
    return _CHANGED_CODE if response.changed and call.flag("detailed-exitcode") else 0


def apply(call: Call) -> int:
    """Do the steps, and show what was done. Raises the converge's error after showing the steps that came before it."""
    response = _converge(call, check=False)
    _show(call, response)
    return 0


def _converge(call: Call, *, check: bool) -> Response:
    if os.geteuid() != 0:
        raise Denied(f"opening the state {call.root}: bayplan needs root (try sudo)")
    request = Request("converge", wanted(call), check=check, diff=True, root=call.root)
    from bayplan import dispatch

    response = dispatch.handle(request)
    for warning in response.warnings:
        complain(Invalid(f"warning: {warning}"))
    if response.error is not None:
        for step in response.steps:
            write(_line(step))
        error = BayplanError(response.error[1])
        raise error
    return response


def wanted(call: Call) -> dict[str, Any]:
    """The request's `want`: the Compose files, read with this environment, and what the options add."""
    from bayplan.documents import find_files, read_project

    given = os.path.abspath(call.text("project-directory")) if call.given("project-directory") else ""
    paths = call.arguments or find_files(given or os.getcwd())
    want = read_project(
        paths,
        # The host is this one: what is relative here is relative to the file's place there.
        project_directory=given or os.path.dirname(os.path.abspath(paths[0])),
        project_name=call.text("project-name") or None,
        environment=os.environ,
        base=given or None,
    )
    extension = dict(want.get("x-bayplan") or {})
    if call.given("profile"):
        extension["profiles"] = [*extension.get("profiles", ()), *call.many("profile")]
    if call.given("remove-orphans"):
        extension["remove_orphans"] = call.flag("remove-orphans")
    if call.flag("absent"):
        extension.update(state="absent", remove_volumes=call.flag("volumes"))
    if call.flag("wait"):
        extension["wait"] = True
    if call.given("wait-timeout"):
        extension["wait_timeout"] = call.text("wait-timeout")
    return {**want, "x-bayplan": extension} if extension else dict(want)


def _show(call: Call, response: Response) -> None:
    shown = call.text("format")
    if shown == "json":
        write(json_text(response_document(response)))
        return
    if shown:
        from bayplan.cli.template import parse, render

        write(render(parse(shown), response_document(response)))
        return
    for line in lines(response):
        write(line)


def lines(response: Response) -> list[str]:
    """The steps as people read them: a sign, kind and name, the action, why; what differs below; the counts last."""
    found = []
    for step in response.steps:
        found.append(_line(step))
        key = f"{step.kind} {step.name}"
        if _sign(step) == "~":
            found += _differences(response.before.get(key) or {}, response.after.get(key) or {})
    return [*found, summary(response.steps)]


def _line(step: Step) -> str:
    why = f"  ({'; '.join(step.why)})" if step.why else ""
    return printable(f"{_sign(step)} {step.kind} {step.name}  {step.action}{why}")


def _sign(step: Step) -> str:
    return "+" if step.action in _CREATING else "-" if step.action in _REMOVING else "~"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each side of each key that differs."""
    found = []
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            found += [f"    - {key}: {json_text(before[key])}"] if key in before else []
            found += [f"    + {key}: {json_text(after[key])}"] if key in after else []
    return [printable(line) for line in found]


def summary(steps: Iterable[Step]) -> str:
    """ "2 to create, 1 to replace": the actions' counts in the order of their first occurrence."""
    counts: dict[str, int] = {}
    for step in steps:
        counts[step.action] = counts.get(step.action, 0) + 1
    return ", ".join(f"{count} {action}" for action, count in counts.items()) or "nothing to do"
