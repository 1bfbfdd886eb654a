"""What is doubtful in a Dockerfile that can be built: Docker's build checks, with its names and words.

    checked = checks.check(file, plan, environments={"docker.io/library/alpine:latest": {"PATH"}}, ignored=patterns)
    for finding in checked.findings: ...
    if checked.fatal: ...                       # "# check=error=true"

Source: docs.docker.com/reference/build-checks; BuildKit's frontend/dockerfile/linter for what each rule looks at. What `# check=` at the
top says decides which rules count, or the build argument BUILDKIT_DOCKERFILE_CHECK; the comment above an instruction may skip rules for it.
"""

from __future__ import annotations

from bayplan.build import args, lexer, stage_checks, stages, words
from bayplan.build.instructions import Copy, Expose
from bayplan.build.stage_checks import Finding
from bayplan.errors import Invalid
from bayplan.model.image import parse_platform
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from bayplan.build.ignore import Patterns
    from bayplan.build.instructions import From
    from bayplan.build.stages import Plan, Read
    from bayplan.build.syntax import File, Statement

BUILD_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
_RESERVED = ("context", "scratch")
_LONGEST_OPTION = 4096


class Options(NamedTuple):
    """`skip` holds names of rules, or "all"; `fatal`: what is found is an error."""

    skip: frozenset[str] = frozenset()
    fatal: bool = False

    def skips(self, rule: str) -> bool:
        return rule in self.skip or "all" in self.skip


class Checked(NamedTuple):
    """What was found, in the file's order; `fatal` where that is to end the build."""

    findings: tuple[Finding, ...]
    fatal: bool = False

    @property
    def violation(self) -> str:
        """Docker's words for the end of the build."""
        return f"lint violation found for rules: {', '.join(sorted({finding.rule for finding in self.findings}))}"


def parse_options(text: str) -> Options:
    """Read `skip=RULE,RULE;error=true`; raises Invalid."""
    skip: set[str] = set()
    fatal = False
    for part in filter(None, (part.strip() for part in text[:_LONGEST_OPTION].split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in ("skip", "error", "experimental"):
            raise Invalid(f"reading the checks' options: {part!r} is none of skip=, error= and experimental=")
        if name == "error":
            if value.lower() not in ("true", "false", "1", "0"):
                raise Invalid(f"reading the checks' options: error= is true or false, not {value!r}")
            fatal = value.lower() in ("true", "1")
        elif name == "skip":
            skip |= {rule.strip() for rule in value.split(",")}
    return Options(frozenset(skip), fatal)


def check(file: File, plan: Plan, *, environments: Mapping[str, Collection[str]], ignored: Patterns | None = None) -> Checked:
    """Look at a file and at the stages that are built. `environments` are the names of the variables that images set, by their whole name;
    variables are looked at only in stages on an image that is in it. `ignored` is what the context leaves out. Raises Invalid for options
    that make no sense."""
    directive = file.directive("check")
    options = parse_options(plan.build_args.get(BUILD_ARGUMENT, directive.value if directive else ""))
    said = stages.read(file)
    statements = {statement.place.line: statement for statement in file.statements}
    found = [*_lines(file), *_casing(file), *_names(said, statements), *_bases(said, plan)]
    for stage in plan.stages:
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and ignored is not None and not instruction.origin:
                found += _ignored(instruction, ignored)
            if isinstance(instruction, Expose):
                found += stage_checks.ports(instruction)
    found += stage_checks.look(plan, environments)
    kept = {finding for finding in found if not options.skips(finding.rule) and not _skipped(statements.get(finding.line), finding.rule)}
    return Checked(tuple(sorted(kept, key=lambda finding: (finding.line, finding.rule, finding.message))), options.fatal and bool(kept))


def _skipped(statement: Statement | None, rule: str) -> bool:
    """Whether the comments above the instruction skip the rule."""
    for comment in statement.comments if statement else ():
        if comment.replace(" ", "").startswith("check="):
            try:
                if parse_options(comment.partition("=")[2]).skips(rule):
                    return True
            except Invalid:
                continue
    return False


def _lines(file: File) -> Iterator[Finding]:
    for statement in file.statements:
        if statement.name == "MAINTAINER":
            yield Finding("MaintainerDeprecated", statement.place.line, "Maintainer instruction is deprecated in favor of using label")
        if statement.empty_lines:
            yield Finding("NoEmptyContinuation", statement.place.line, "Empty continuation line")
        if statement.name in ("ENV", "LABEL"):
            given = words.quoted(statement.rest, file.escape)
            if given and "=" not in given[0]:
                message = f'"{statement.name} key=value" should be used instead of legacy "{statement.name} key value" format'
                yield Finding("LegacyKeyValueFormat", statement.place.line, message)


def _casing(file: File) -> Iterator[Finding]:
    """Instructions that are not written as most are; ARGs before the first FROM do not count."""
    first = next((index for index, statement in enumerate(file.statements) if statement.name == "FROM"), 0)
    counted = file.statements[first:]
    lower = sum(statement.written.islower() for statement in counted)
    upper = sum(statement.written.isupper() for statement in counted)
    wanted = "lowercase" if lower > upper else "uppercase"
    for statement in counted:
        written = statement.written
        if written != (written.lower() if lower > upper else written.upper()):
            message = f"Command '{written}' should match the case of the command majority ({wanted})"
            yield Finding("ConsistentInstructionCasing", statement.place.line, message)


def _names(said: Read, statements: Mapping[int, Statement]) -> Iterator[Finding]:
    seen: set[str] = set()
    for first, _ in said.stages:
        line = first.place.line
        statement = statements[line]
        if not first.name:
            continue
        _, keyword, name = words.blank(statement.rest)
        if name != name.lower():
            yield Finding("StageNameCasing", line, f"Stage name '{name}' should be lowercase")
        if statement.written in ("from", "FROM") and keyword != ("as" if statement.written == "from" else "AS"):
            yield Finding("FromAsCasing", line, f"'{keyword}' and '{statement.written}' keywords' casing do not match")
        if first.name in _RESERVED:
            yield Finding("ReservedStageName", line, f'Stage name should not use the same name as reserved stage "{first.name}"')
        if first.name in seen:
            yield Finding("DuplicateStageName", line, f'Duplicate stage name "{first.name}", stage names should be unique')
        seen.add(first.name)


def _bases(said: Read, plan: Plan) -> Iterator[Finding]:
    declared = {name for arg in said.arguments for name, _ in arg.arguments} | set(plan.arguments)
    own = {name: plan.arguments[name] for name in args.automatic("", "", "")}
    try:
        defaults = args.before_from(said.arguments, {}, own, plan.escape)
    except Invalid:
        defaults = dict(plan.arguments)  # a default demands a value, and got one
    for first, _ in said.stages:
        line = first.place.line
        unset = _process(first.image, plan.arguments, plan.escape).unset
        if first.platform:
            platform = _process(first.platform, plan.arguments, plan.escape)
            unset |= platform.unset
            yield from _platform(first, platform, plan.arguments)
        for name in sorted(unset - declared):
            yield Finding("UndefinedArgInFrom", line, f"FROM argument '{name}' is not declared{stage_checks.meant(name, declared)}")
        if not _is_reference(_process(first.image, defaults, plan.escape).text):
            message = f"Default value for ARG {first.image} results in empty or invalid base image name"
            yield Finding("InvalidDefaultArgInFrom", line, message)


def _platform(first: From, found: lexer.Processed, arguments: Mapping[str, str]) -> Iterator[Finding]:
    line = first.place.line
    if found.used == {"TARGETPLATFORM"} and not found.unset and found.text == arguments["TARGETPLATFORM"]:
        message = f"Setting platform to predefined {first.platform} in FROM is redundant as this is the default behavior"
        yield Finding("RedundantTargetPlatform", line, message)
    if not found.used and not found.unset:
        try:
            platform = parse_platform(found.text)
        except Invalid:
            return
        if platform.os not in first.name and platform.architecture not in first.name:
            yield Finding("FromPlatformFlagConstDisallowed", line, f'FROM --platform flag should not use constant value "{found.text}"')


def _process(text: str, variables: Mapping[str, str], escape: str) -> lexer.Processed:
    try:
        return lexer.process(text, variables, lexer.Rules(escape))
    except Invalid:
        return lexer.Processed("", (), frozenset(), frozenset())


def _is_reference(text: str) -> bool:
    try:
        parse_reference(text)
    except Invalid:
        return False
    return True


def _ignored(copy: Copy, patterns: Patterns) -> Iterator[Finding]:
    """Sources that the context does not hold. Where patterns bring files back in, nothing can be said of a directory."""
    if any(pattern.keep for pattern in patterns.patterns):
        return
    for source in copy.sources:
        if "$" not in source and "://" not in source and patterns.excludes(source.removeprefix("./")):
            name = "Add" if copy.add else "Copy"
            yield Finding("CopyIgnoredFile", copy.place.line, f'Attempting to {name} file "{source}" that is excluded by .dockerignore')
