"""One stage, instruction by instruction: from the image that it begins with to the draft of another."""

from __future__ import annotations

import os
import time

from bayplan.build import draft as drafts
from bayplan.build import expansion, stages
from bayplan.build import instructions as dockerfile
from bayplan.build.draft import Draft
from bayplan.engine import build_content, build_keys
from bayplan.engine.build_content import Source
from bayplan.engine.build_order import Order
from bayplan.engine.build_report import CACHED, MADE
from bayplan.errors import BayplanError, Invalid
from bayplan.model.digest import parse_digest
from bayplan.model.late import late
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import cache, layers, records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bayplan.build.instructions import Instruction
    from bayplan.build.stages import Plan
    from bayplan.engine import build_add, build_copy, build_mounts, build_run
    from bayplan.engine.build_context import Context
    from bayplan.engine.build_mounts import Given
    from bayplan.engine.build_report import Report
    from bayplan.engine.build_site import Site
else:  # a build that is cached as a whole makes nothing
    build_add = late("bayplan.engine.build_add")
    build_copy = late("bayplan.engine.build_copy")
    build_mounts = late("bayplan.engine.build_mounts")
    build_run = late("bayplan.engine.build_run")

_DESCRIPTION_LIMIT = 1000  # characters
_SHOWN = 160  # the same, where a step is named
_TAIL = 40  # lines of a failed command's output in the error


class Uncached(Exception):
    """A dry build has come to a step that would have to be made; its text says which."""


class Work(NamedTuple):
    """What a stage is made of. `context` says which of its files stay behind. Without `cached` nothing is taken from the cache; what is
    `dry` makes nothing."""

    name: str
    plan: Plan
    instructions: tuple[Instruction, ...]
    given: Given
    context: Context
    cached: bool = True
    dry: bool = False


class Stage:
    """A stage on its way; `draft` is what it is by now, `arguments` are the values of its ARGs and those of the stage it is based on."""

    def __init__(self, site: Site, work: Work, draft: Draft, report: Report, *, arguments: Mapping[str, str]) -> None:
        self.site, self.work, self.draft, self.report = site, work, draft, report
        self.arguments = dict(arguments)
        self._used: list[str] = []
        self._fresh: list[cache.Step] = []
        self._tail: list[bytes] = []
        self._name = ""

    def build(self) -> Draft:
        layers.complete(self.site.state.root, tuple(map(parse_digest, self.draft.layers)))
        try:
            for number, instruction in enumerate(self.work.instructions, 1):
                self._step(instruction, f"[{self.work.name} {number}/{len(self.work.instructions)}]".replace("[ ", "["))
        finally:
            self._remember()
        return self.draft

    def _remember(self) -> None:
        if (self._used or self._fresh) and not self.work.dry:
            with records.transaction(self.site.state.records):
                for step in self._fresh:
                    cache.put(self.site.state.records, step)
                if self._used:
                    cache.note_use(self.site.state.records, self._used, at=self.site.created)

    def _step(self, instruction: Instruction, name: str) -> None:
        began = time.monotonic()
        self._tail.clear()
        self._name = f"{name} {described(instruction)[:_SHOWN]}"
        self.report.begin(name, instruction)
        try:
            ended = self._do(instruction)
        except BayplanError as error:
            raise self._wrong(instruction, error) from error
        self.report.end(ended, time.monotonic() - began)

    def _wrong(self, instruction: Instruction, error: BayplanError) -> Invalid:
        """With the line and, of a command, the end of what it said."""
        said = b"".join(self._tail).decode("utf-8", "replace").splitlines()[-_TAIL:]
        return Invalid(str(instruction.place.wrong(str(error))) + "".join(f"\n  | {line}" for line in said))

    @property
    def _variables(self) -> dict[str, str]:
        return {**self.arguments, **self.draft.environment}

    def _do(self, instruction: Instruction) -> str:
        if isinstance(instruction, dockerfile.Arg):
            declared = stages.declared(self.work.plan, instruction, self._variables)
            self.arguments.update((name, value) for name, value in declared if value is not None)
            wanted: Instruction = instruction
        else:
            wanted = expansion.expand(instruction, self._variables, escape=self.work.plan.escape)
        if isinstance(wanted, dockerfile.Run):
            return self._run(wanted)
        if isinstance(wanted, dockerfile.Copy):
            return self._copy(wanted)
        if isinstance(wanted, dockerfile.Workdir):
            return self._workdir(wanted)
        key = build_keys.of_config(self.draft, wanted, epoch=self.site.epoch)
        self.draft = drafts.apply(self.draft, wanted)
        self._layer(key, None, described(wanted))
        return ""

    def _run(self, wanted: dockerfile.Run) -> str:
        build_mounts.verify_entitled(wanted, self.work.given)
        wanted = wanted._replace(network=self.work.given.network) if wanted.network == "default" else wanted
        words = drafts.command_words(self.draft, wanted.command)
        arguments = {name: value for name, value in self.arguments.items() if name not in self.draft.environment}
        shown = {name: value for name, value in arguments.items() if name.upper() not in stages.PROXIES}
        mounted = {str(index): self._mounted(each) for index, each in enumerate(wanted.mounts)}
        key = build_keys.of_run(self.draft, words, wanted, shown, mounted, epoch=self.site.epoch)

        def make() -> str | None:
            given = {**dict(self.work.plan.proxies), **arguments, **self._secret_variables(wanted)}
            return build_run.run(self.site, self.draft, wanted, variables=given, given=self.work.given, write=self._output)

        counted = [f"|{len(shown)}", *(f"{name}={value}" for name, value in sorted(shown.items()))] if shown else []
        return self._layer(key, make, " ".join(["RUN", *counted, *words]))

    def _secret_variables(self, wanted: dockerfile.Run) -> dict[str, str]:
        found = {}
        for mount in wanted.mounts:
            if mount.type == "secret" and mount.environment:
                content = self.work.given.secrets.get(mount.id or os.path.basename(mount.source or mount.target))
                if content is not None:
                    found[mount.environment] = content.decode("utf-8", "surrogateescape")
            elif mount.type == "ssh" and (mount.id or "default") in self.work.given.agents:
                found["SSH_AUTH_SOCK"] = build_mounts.agent_path(mount)
        return found

    def _mounted(self, mount: dockerfile.RunMount) -> str:
        """What the key has of a mount's content: of the context, or of another stage's layers; caches and secrets change nothing."""
        if mount.type != "bind":
            return ""
        top, content = self.work.given.origin(mount.origin) if mount.origin else (self.work.given.context, "")
        if content:
            return content
        with _opened(top) as root:
            found = build_content.match(root, mount.source or "/", excludes=self.work.context.excludes)
            return " ".join(build_content.digest(Source(root, path, self.work.context.excludes)) for path in found)

    def _output(self, data: bytes) -> None:
        self._tail.append(data)
        if len(self._tail) > 2 * _TAIL:
            del self._tail[:_TAIL]
        self.report.output(data)

    def _copy(self, wanted: dockerfile.Copy) -> str:
        top = self.work.given.origin(wanted.origin)[0] if wanted.origin else self.work.given.context
        local = tuple(each for each in wanted.sources if not (wanted.add and build_add.is_remote(each)))
        remote = tuple(each for each in wanted.sources if each not in local)
        with _opened(top) as root:
            excludes = build_content.nothing if wanted.origin else self.work.context.excludes
            skips = build_content.nothing if wanted.origin else self.work.context.skips
            unpack = wanted.add and wanted.unpack is not False
            attributes = build_content.ALL_ATTRIBUTES if wanted.origin else ()
            found = [
                Source(root, path, excludes, bool(wanted.origin), unpack, skips, attributes)
                for pattern in local
                for path in build_content.match(root, pattern, excludes=excludes)
            ]
            if wanted.exclude:
                found = [kept for each in found if (kept := build_add.excluding(each, wanted))]
            if remote or wanted.inline:
                found += build_add.fetched(self.site, wanted, remote, build_add.written(self.site, wanted.inline))
            order = self._order(wanted, tuple(found))
            contents = tuple(f"{build_content.digest(each)} {each.unpack}" for each in order.sources)
            key = build_keys.of_copy(self.draft, order, contents, epoch=self.site.epoch)
            return self._layer(key, lambda: self._make_copy(order), described(wanted))

    def _make_copy(self, order: Order) -> str | None:
        return build_copy.copy(self.site, self.draft.layers, build_add.unpacked(self.site, order))

    def _order(self, wanted: dockerfile.Copy, found: tuple[Source, ...]) -> Order:
        into = wanted.destination.endswith(("/", "/.")) or wanted.destination in (".", "..")
        if len(found) > 1 and not into:
            raise Invalid(f"copying {len(found)} sources to {wanted.destination}: the destination must be a directory and end with a /")
        names = tuple(_name_below(each.path, wanted.sources) for each in found) if wanted.parents else ()
        destination = drafts.working_directory(self.draft, wanted.destination)
        return Order(found, destination, into, wanted.chown, wanted.chmod, wanted.link, names)

    def _workdir(self, wanted: dockerfile.Workdir) -> str:
        self.draft = drafts.apply(self.draft, wanted)
        order = Order((), self.draft.directory, into=True, chown=self.draft.user, only_directory=True)
        key = build_keys.of_copy(self.draft, order, (), epoch=self.site.epoch)
        return self._layer(key, lambda: build_copy.copy(self.site, self.draft.layers, order), described(wanted))

    def _layer(self, key: str, make: Callable[[], str | None] | None, created_by: str) -> str:
        """Take the step from the cache, or make it: what is written down of it, its time too, is what it was the first time."""
        step = cache.find(self.site.state.records, key) if self.work.cached else None
        ended = CACHED
        if step and (not step.layer or layers.exists(self.site.state.root, parse_digest(step.layer))):
            self._used.append(key)
        elif self.work.dry:
            raise Uncached(f"{self._name} is not in the cache")
        else:
            ended = MADE
            if make:
                self.report.work()
            layer, now = make() if make else None, self.site.created
            step = cache.Step(key, layer or "", created_by[:_DESCRIPTION_LIMIT], now, now)
            self._fresh.append(step)
        self.draft = drafts.with_layer(self.draft, step.layer or None, created_by=created_by, created=step.created)
        return ended


class _opened:
    """`with _opened(PATH) as root:` a descriptor of a directory."""

    def __init__(self, path: str) -> None:
        self._fd = build_content.open_root(path)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def _name_below(path: str, patterns: tuple[str, ...]) -> str:
    """What --parents keeps of a source's path: what comes after `/./`, or all of it."""
    for pattern in patterns:
        pivot, mark, _ = pattern.removeprefix("./").partition("/./")
        top = build_content.clean(pivot)
        if mark and (path == top or path.startswith(f"{top}/")):
            return path[len(top) :].lstrip("/")
    return path


def described(instruction: Instruction) -> str:
    """As the history has it: in one line."""
    return " ".join((instruction.place.one or instruction.place.text).split())
