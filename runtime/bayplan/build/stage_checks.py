"""The build checks that follow a stage from instruction to instruction: its variables, its directory, and what is said twice."""

from __future__ import annotations

import re

from bayplan.build import expansion, stages
from bayplan.build.instructions import Arg, Cmd, Entrypoint, Env, Expose, Health, Shell, Workdir
from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from bayplan.build.instructions import Instruction
    from bayplan.build.stages import Plan, Stage

_SECRET = re.compile(r"(?ai)(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)")
_NO_SECRET = re.compile(r"(?ai)(?:_|^)(?:public|file|version)(?:_|$)")
_PROTOCOL = re.compile(r"(?a)[^/]*/([A-Za-z]+)")


class Finding(NamedTuple):
    """What a rule has against a line."""

    rule: str
    line: int
    message: str


class _Known(NamedTuple):
    """What is known of a stage so far; `variables` is None where its image's are unknown."""

    variables: dict[str, str] | None
    escape: str
    declared: frozenset[str] = frozenset()
    directory: bool = False
    shell: bool = False


def look(plan: Plan, environments: Mapping[str, Collection[str]]) -> list[Finding]:
    """What is found in the stages that are built."""
    found: list[Finding] = []
    known: dict[int, _Known] = {}
    for stage in plan.stages:
        current = _begin(plan, stage, known, environments)
        last: dict[str, int] = {}
        for instruction in stage.instructions:
            found += _instruction(instruction, current)
            found += _twice(instruction, last)
            current = _after(plan, instruction, current)
        known[stage.number] = current
    return found


def _begin(plan: Plan, stage: Stage, known: Mapping[int, _Known], environments: Mapping[str, Collection[str]]) -> _Known:
    if stage.source.kind == stages.STAGE:
        return known[stage.source.number]
    if stage.source.kind == stages.SCRATCH:
        return _Known({"PATH": ""}, plan.escape)
    names = environments.get(stage.source.name)
    return _Known(None if names is None else {"PATH": "", **dict.fromkeys(names, "")}, plan.escape)


def _instruction(instruction: Instruction, known: _Known) -> Iterator[Finding]:
    line = instruction.place.line
    if isinstance(instruction, Workdir) and not known.directory and not _text(instruction, known).startswith("/"):
        message = f'Relative workdir "{_text(instruction, known)}" can have unexpected results if the base image changes'
        yield Finding("WorkdirRelativePath", line, message)
    if isinstance(instruction, (Cmd, Entrypoint)) and instruction.command.shell and not known.shell:
        name = "CMD" if isinstance(instruction, Cmd) else "ENTRYPOINT"
        message = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        yield Finding("JSONArgsRecommended", line, message)
    if isinstance(instruction, (Arg, Env)):
        yield from _secrets(instruction)
    yield from _unset(instruction, known)


def _text(instruction: Workdir, known: _Known) -> str:
    try:
        expanded = expansion.expand(instruction, known.variables or {}, escape=known.escape)
    except Invalid:
        return "/"
    return expanded.path if isinstance(expanded, Workdir) else "/"


def _secrets(instruction: Arg | Env) -> Iterator[Finding]:
    kind = "ARG" if isinstance(instruction, Arg) else "ENV"
    for name, _ in instruction.arguments if isinstance(instruction, Arg) else instruction.variables:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            message = f'Do not use ARG or ENV instructions for sensitive data ({kind} "{name}")'
            yield Finding("SecretsUsedInArgOrEnv", instruction.place.line, message)


def _unset(instruction: Instruction, known: _Known) -> Iterator[Finding]:
    if known.variables is None:
        return
    try:
        unset = expansion.expand_known(instruction, known.variables, escape=known.escape).unset
    except Invalid:
        return
    for name in sorted(unset - known.declared):
        message = f"Usage of undefined variable '${name}'{meant(name, known.variables, '$')}"
        yield Finding("UndefinedVar", instruction.place.line, message)


def meant(name: str, names: Iterable[str], mark: str = "") -> str:
    """Docker's words for what may have been meant, where something is near."""
    from difflib import get_close_matches  # where something is found only: it costs 5 ms

    near = get_close_matches(name[:40], sorted(names), n=1, cutoff=0.7)
    return f" (did you mean {mark}{near[0]}?)" if near else ""


def _twice(instruction: Instruction, last: dict[str, int]) -> Iterator[Finding]:
    """What only the last one of counts: the one before is told."""
    if isinstance(instruction, (Cmd, Entrypoint, Health)):
        name = {"Health": "HEALTHCHECK"}.get(type(instruction).__name__, type(instruction).__name__.upper())
        if name in last:
            message = f"Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            yield Finding("MultipleInstructionsDisallowed", last[name], message)
        last[name] = instruction.place.line


def _after(plan: Plan, instruction: Instruction, known: _Known) -> _Known:
    if isinstance(instruction, Workdir):
        return known._replace(directory=True)
    if isinstance(instruction, Shell):
        return known._replace(shell=True)
    if not isinstance(instruction, (Arg, Env)):
        return known
    try:
        if isinstance(instruction, Arg):
            given = stages.declared(plan, instruction, known.variables or {})
        else:
            expanded = expansion.expand(instruction, known.variables or {}, escape=plan.escape)
            given = expanded.variables if isinstance(expanded, Env) else ()
    except Invalid:
        return known
    values = {name: value for name, value in given if value is not None}
    declared = known.declared | {name for name, _ in given}
    return known._replace(declared=declared, variables=None if known.variables is None else {**known.variables, **values})


def ports(expose: Expose) -> Iterator[Finding]:
    """What EXPOSE should not say."""
    for port in expose.ports:
        protocol = _PROTOCOL.fullmatch(port)
        if protocol and not protocol[1].islower():
            message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
            yield Finding("ExposeProtoCasing", expose.place.line, message)
        if ":" in port and "$" not in port:
            message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            yield Finding("ExposeInvalidFormat", expose.place.line, message)
