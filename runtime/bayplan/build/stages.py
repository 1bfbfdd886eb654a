"""Which stages of a Dockerfile are built, in which order, and where each takes its files from.

    plan = stages.plan(file, target="", build_args={}, platform="linux/amd64")
    for stage in plan.stages:                    # each after those that it needs; the last one is the target
        for instruction in stage.instructions:   # without the FROM, with the triggers of a stage that it is based on
            if isinstance(instruction, Arg):
                stages.declared(plan, instruction, variables)

What images keep as ONBUILD is known only when they are there: `with_triggers` then plans anew. Source: Dockerfile reference, "Multi-stage
builds", "ARG" and "Automatic platform ARGs"; BuildKit's frontend for what a name refers to.
"""

from __future__ import annotations

from bayplan.build import args, reading
from bayplan.build.instructions import Arg, Copy, From, OnBuild, Place, Run
from bayplan.errors import Invalid
from bayplan.model.image import parse_platform
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from bayplan.build.instructions import Instruction
    from bayplan.build.syntax import File

STAGES_LIMIT = 250
STAGE, IMAGE, CONTEXT, SCRATCH = "stage", "image", "context", "scratch"
PROXIES = args.PROXIES
_NO_CONTEXTS = ("scratch", "context")  # names that a named context cannot take


class Source(NamedTuple):
    """Where files come from: a `stage` (whose `number` counts from 0), an `image`, a named `context`, or nothing (`scratch`)."""

    kind: str
    name: str = ""
    number: int = -1


class Stage(NamedTuple):
    """`name` is "" where there is none; `platform` is what --platform says, or "". `origins` says what --from and from= refer to."""

    number: int
    name: str
    place: Place
    source: Source
    platform: str
    instructions: tuple[Instruction, ...]
    origins: tuple[tuple[str, Source], ...] = ()

    def origin(self, name: str) -> Source:
        """What COPY --from=`name` or RUN --mount from=`name` refers to in this stage."""
        return dict(self.origins)[name]

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that the stage needs: its base first."""
        return (self.source, *dict.fromkeys(source for _, source in self.origins))

    @property
    def needs(self) -> tuple[int, ...]:
        """The numbers of the stages that it needs."""
        return tuple(dict.fromkeys(source.number for source in self.sources if source.kind == STAGE))


class Plan(NamedTuple):
    """`stages` are those to build, in order, of `all`; `arguments` are the ARGs before the first FROM and the automatic ones; `proxies` are
    variables for each RUN that are neither recorded nor part of what its cache is found by; `unused` are build arguments that no ARG
    takes."""

    all: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    target: int
    escape: str
    arguments: Mapping[str, str]
    build_args: Mapping[str, str]
    contexts: tuple[str, ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


class Read(NamedTuple):
    """A file's instructions: the ARGs before the first FROM, and each FROM with what follows it."""

    arguments: tuple[Arg, ...]
    stages: tuple[tuple[From, tuple[Instruction, ...]], ...]


def unused_warning(plan: Plan) -> str:
    """Docker's words for build arguments that nothing takes, or ""."""
    return f"One or more build-args [{' '.join(plan.unused)}] were not consumed" if plan.unused else ""


def read(file: File) -> Read:
    """All instructions of a file, by stage. Raises Invalid."""
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for statement in file.statements:
        instruction = reading.read(statement, escape=file.escape)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise statement.place.wrong(f"{statement.name} stands before the first FROM, where ARG alone may stand")
    if not stages:
        raise Invalid(f"{file.name}: there is no FROM, and so no stage to build")
    if len(stages) > STAGES_LIMIT:
        raise stages[STAGES_LIMIT][0].place.wrong(f"a Dockerfile has at most {STAGES_LIMIT} stages")
    return Read(tuple(arguments), tuple((first, tuple(rest)) for first, rest in stages))


def _all(said: Read) -> list[Instruction]:
    return [*said.arguments, *(one for _, rest in said.stages for one in rest)]


def plan(
    file: File,
    *,
    target: str = "",
    build_args: Mapping[str, str],
    platform: str,
    build_platform: str = "",
    contexts: Collection[str] = (),
) -> Plan:
    """Plan the stage named `target`, or the last one. `platform` is what the image is for, `build_platform` what builds it (the same, where
    it is ""): os/architecture[/variant]. `contexts` are the names of --build-context. Raises Invalid."""
    said = read(file)
    named = tuple(_context_name(name) for name in contexts)
    last = target.lower() or said.stages[-1][0].name
    arguments = args.before_from(said.arguments, build_args, args.automatic(platform, build_platform or platform, last), file.escape)
    everything = _linked(_based(said, arguments, named, file.escape), named)
    made = Plan(
        everything, (), _target(file, everything, target), file.escape, arguments, dict(build_args), named, args.proxies(build_args),
        args.unused(_all(said), build_args, arguments),
    )  # fmt: skip
    return made._replace(stages=_reachable(made))


def with_triggers(plan: Plan, number: int, triggers: Sequence[str], *, image: str) -> Plan:
    """The plan where the stage `number` begins with what its base `image` keeps as ONBUILD. Raises Invalid."""
    stage = plan.all[number]
    first = [reading.trigger(text, f"{image}: ONBUILD", escape=plan.escape) for text in triggers]
    changed = stage._replace(instructions=(*first, *stage.instructions))
    everything = _linked([changed if one.number == number else one for one in plan.all], plan.contexts)
    made = plan._replace(all=everything)
    return made._replace(stages=_reachable(made))


def declared(plan: Plan, arg: Arg, variables: Mapping[str, str]) -> tuple[tuple[str, str | None], ...]:
    """The values that a stage's ARG gives: --build-arg decides, then its default, then the ARG of that name before the first FROM; None is
    declared and unset. `variables` are those before the instruction. They last to the end of the stage, and in stages based on it."""
    known = dict(variables)
    values: list[tuple[str, str | None]] = []
    for name, default in arg.arguments:
        value = plan.build_args.get(name)
        if value is None:
            value = plan.arguments.get(name) if default is None else args.text(default, known, plan.escape, arg.place)
        if value is not None:
            known[name] = value
        values.append((name, value))
    return tuple(values)


def _context_name(name: str) -> str:
    """A named context's name as Docker compares it: an image's name as people write it, without the tag `latest`."""
    try:
        return parse_reference(name.lower()).familiar.removesuffix(":latest")
    except Invalid:
        return name.lower()


def _based(said: Read, arguments: Mapping[str, str], contexts: tuple[str, ...], escape: str) -> list[Stage]:
    """The stages with their bases. A name refers to the last stage before that has it, then to a named context, then to an image."""
    stages: list[Stage] = []
    names: dict[str, int] = {}
    for index, (first, rest) in enumerate(said.stages):
        image = args.text(first.image, arguments, escape, first.place)
        if not image:
            raise first.place.wrong(f"the base's name {first.image} is empty{args.unset(first.image, arguments, escape)}")
        platform = _platform(first, arguments, escape)
        if first.name and first.name in contexts and first.name not in _NO_CONTEXTS:
            stages.append(Stage(index, first.name, first.place, Source(CONTEXT, first.name), platform, ()))
        else:
            source = _named(image, names, contexts, first.place, args.unset(first.image, arguments, escape))
            kept = _kept(stages[source.number]) if source.kind == STAGE else ()
            stages.append(Stage(index, first.name, first.place, source, platform, (*kept, *rest)))
        if first.name:
            names[first.name] = index
    return stages


def _kept(stage: Stage) -> tuple[Instruction, ...]:
    """What a stage that is based on this one begins with."""
    return tuple(
        reading.trigger(one.instruction, one.place.file)._replace(place=one.place) for one in stage.instructions if isinstance(one, OnBuild)
    )


def _platform(first: From, arguments: Mapping[str, str], escape: str) -> str:
    if not first.platform:
        return ""
    platform = args.text(first.platform, arguments, escape, first.place)
    if platform == "linux":
        platform = f"linux/{arguments['BUILDARCH']}"
    try:
        return str(parse_platform(platform if "/" in platform or not platform else f"linux/{platform}"))
    except Invalid as error:
        raise first.place.wrong(f"--platform={first.platform}: {error}{args.unset(first.platform, arguments, escape)}") from None


def _named(name: str, names: Mapping[str, int], contexts: tuple[str, ...], place: Place, hint: str = "") -> Source:
    if name.lower() in names:
        return Source(STAGE, name.lower(), names[name.lower()])
    if name == SCRATCH:
        return Source(SCRATCH)
    if _context_name(name) in contexts and name.lower() not in _NO_CONTEXTS:
        return Source(CONTEXT, _context_name(name))
    try:
        return Source(IMAGE, parse_reference(name).canonical)
    except Invalid as error:
        raise place.wrong(f"{error}{hint}") from None


def _linked(stages: Sequence[Stage], contexts: tuple[str, ...]) -> tuple[Stage, ...]:
    """The stages with what their instructions copy and mount from; here, a name refers to the last stage that has it."""
    names = {stage.name: stage.number for stage in stages if stage.name}
    linked = []
    for stage in stages:
        found: dict[str, Source] = {}
        for instruction in stage.instructions:
            for name in _origins(instruction):
                found[name] = _origin(name, names, len(stages), contexts, instruction.place)
        linked.append(stage._replace(origins=tuple(found.items())))
    _check_circles(linked)
    return tuple(linked)


def _origins(instruction: Instruction) -> tuple[str, ...]:
    if isinstance(instruction, Copy):
        return (instruction.origin,) if instruction.origin else ()
    return tuple(mount.origin for mount in instruction.mounts if mount.origin) if isinstance(instruction, Run) else ()


def _origin(name: str, names: Mapping[str, int], count: int, contexts: tuple[str, ...], place: Place) -> Source:
    if not (name.isascii() and name.lstrip("+-").isdigit()):
        return _named(name, names, contexts, place)
    if len(name) > 9 or not 0 <= int(name) < count:
        raise place.wrong(f"there is no stage {name}: the file has {count}, counted from 0")
    return Source(STAGE, name, int(name))


def _check_circles(stages: Sequence[Stage]) -> None:
    done: set[int] = set()
    for stage in stages:
        path: list[int] = []
        _visit(stages, stage.number, path, done)


def _visit(stages: Sequence[Stage], index: int, path: list[int], done: set[int]) -> None:
    if index in path:
        stage = stages[index]
        raise stage.place.wrong(f"the stage {stage.name or index} needs itself: {' needs '.join(_called(stages, [*path, index]))}")
    if index in done:
        return
    path.append(index)
    for other in stages[index].needs:
        _visit(stages, other, path, done)
    path.pop()
    done.add(index)


def _called(stages: Sequence[Stage], indices: Iterable[int]) -> list[str]:
    return [stages[index].name or str(index) for index in indices]


def _target(file: File, stages: Sequence[Stage], target: str) -> int:
    names = {stage.name: stage.number for stage in stages if stage.name}
    if not target:
        return len(stages) - 1
    if target.lower() in names:
        return names[target.lower()]
    if target.isdigit() and int(target) < len(stages):
        return int(target)
    from bayplan.build.flags import near

    raise Invalid(f"{file.name}: there is no stage {target!r} to build{near(target.lower(), tuple(names), '')}")


def _reachable(plan: Plan) -> tuple[Stage, ...]:
    """The stages that the target needs, in the file's order; raises Invalid where one needs a later one."""
    wanted, found = [plan.target], set()
    while wanted:
        index = wanted.pop()
        if index in found:
            continue
        found.add(index)
        stage = plan.all[index]
        for other in stage.needs:
            if other > index:
                name = plan.all[other].name or str(other)
                raise stage.place.wrong(f"the stage {stage.name or index} takes files from the stage {name}, which comes only after it")
            wanted.append(other)
    return tuple(plan.all[index] for index in sorted(found))
