"""The verb `converge`: observe, plan, and unless it is a check, apply the plan's steps."""

from __future__ import annotations

from bayplan.engine import aside
from bayplan.engine.observe import observe
from bayplan.engine.state import open_state
from bayplan.errors import Invalid, explain
from bayplan.model.compose import parse_declaration
from bayplan.model.result import Request, Response, Step
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan.converge import Planned, plan
from bayplan.store import locks

if TYPE_CHECKING:
    from bayplan.engine.apply import Applying
    from bayplan.engine.observe import Auth
    from bayplan.model.declaration import Declaration


def converge(request: Request) -> Response:
    """Make the host what the request's document declares. Raises what parsing, planning or observing raises; an error while
    applying is in the response, beside the steps that were done before it."""
    want = parse_declaration(request.want)
    auth = _auth(request)
    state = open_state(request.root)
    _find_runtimes(want)
    have = observe(state, want, auth=auth)
    planned = plan(want, have, predict=request.check)
    _ask_policy(planned)
    if request.check or not (planned.steps or aside.has_remains(state)):
        return _response(planned, planned.steps)
    from bayplan.engine import clean  # only now, with all that applying takes: mostly there is nothing to do
    from bayplan.engine.apply import Applying

    state.records.close()
    state = open_state(request.root, create=True)
    with locks.converge(state.root.path):
        clean.debris(state)
        have = observe(state, want, auth=auth)
        planned = plan(want, have)
        return _apply_all(Applying(state, want, have, auth), planned)


def _ask_policy(planned: Planned) -> None:
    """Before anything is made: an image that may not come is an error, in check mode, too. Its signatures are looked at by the pull."""
    pulls = [step.name for step in planned.steps if step.action == "pull"]
    if pulls:
        from bayplan.engine import policy
        from bayplan.model.reference import parse_reference

        for name in pulls:
            policy.verify_pull(parse_reference(name))


def _find_runtimes(want: Declaration) -> None:
    """Before anything is made: a runtime that the host lacks is an error, in check mode, too."""
    named = {each.spec.runtime for each in want.containers if each.state != "absent"} - {""}
    if named:
        from bayplan.engine import runtime_calls  # for those who name one

        for name in sorted(named):
            runtime_calls.find(name)


def _auth(request: Request) -> Auth | None:
    """Credentials for this call alone: never recorded."""
    options = request.want.get("x-bayplan")
    auth = options.get("auth") if isinstance(options, dict) else None
    if auth is None:
        return None
    if not isinstance(auth, dict) or not isinstance(auth.get("username"), str) or not isinstance(auth.get("password"), str):
        raise Invalid("reading the registry's credentials: they are a username and a password")
    return auth


def _response(planned: Planned, done: tuple[Step, ...], error: tuple[str, str] | None = None) -> Response:
    return Response(done, planned.before, planned.after, None, planned.warnings, error)


def _apply_all(applying: Applying, planned: Planned) -> Response:
    from bayplan.engine.apply import apply, await_all

    done: list[Step] = []
    try:
        for step in planned.steps:
            apply(applying, step, done)
            done.append(step)
        if applying.want.wait:
            await_all(applying)
    except BaseException as error:
        return _response(planned, tuple(done), explain(error))
    return _response(planned, tuple(done))
