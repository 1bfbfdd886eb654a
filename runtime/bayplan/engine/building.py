"""Building an image from a Dockerfile: its stages, each in a process of its own, those that need nothing of each other at once."""

from __future__ import annotations

import os
from functools import partial

from bayplan.build import draft as drafts
from bayplan.build import stages, syntax
from bayplan.build.draft import Draft
from bayplan.build.stages import IMAGE, SCRATCH, Plan, Source, Stage
from bayplan.engine import build_context, build_site, build_stage, cgroup, clock, images, sealing
from bayplan.engine.build_context import Context
from bayplan.engine.build_mounts import Given
from bayplan.engine.build_report import Report
from bayplan.engine.state import State, open_state
from bayplan.model import jsontext
from bayplan.model.image import machine_platform, parse_platform
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import locks, staging, workers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bayplan.store.records import ImageRow

class Request(NamedTuple):
    """What to build. Of `context` and `dockerfile` see build_context.open_context, of `secrets` and `agents` build_mounts.Given. `epoch` is
    SOURCE_DATE_EPOCH."""

    context: str
    dockerfile: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    platform: str = ""
    secrets: Mapping[str, bytes] = {}
    agents: Mapping[str, str] = {}
    cached: bool = True
    pull: bool = False
    quiet: bool = False
    epoch: int | None = None


class Built(NamedTuple):
    """A stage that is done: what became of it, and the values of its ARGs."""

    draft: Draft
    arguments: Mapping[str, str]


def build(state: State, request: Request) -> ImageRow:
    """Build and record the image. Raises Invalid with the Dockerfile's line, NotFound, Denied, Unavailable, Kernel; steps that were done
    stay in the cache, and no name has moved."""
    build_site.verify_driver(state)
    names = tuple(parse_reference(tag).canonical for tag in request.tags)
    platform = str(parse_platform(request.platform) if request.platform else machine_platform(os.uname().machine))
    with locks.content(state.root.path, exclusive=False), staging.claimed(state.root, f"build-{os.urandom(6).hex()}") as directory:
        context = build_context.open_context(_fetching(state, directory), request.context, request.dockerfile)
        file = syntax.parse(context.dockerfile, context.name)
        planned = stages.plan(file, target=request.target, build_args=request.build_args, platform=platform)
        job = _Job(state, request, directory, platform, context)
        planned = job.bring_images(planned)
        built = job.run(planned)
        draft = _labelled(built.draft, request.labels)
        created = str(draft.history[-1].get("created") or "") if draft.history else clock.now()
        return sealing.make(state, drafts.document(draft, created=created), diff_ids=draft.layers, names=names)


def _fetching(state: State, directory: str) -> build_site.Site:
    os.mkdir(f"{directory}/context", 0o700)
    return build_site.Site(state, f"{directory}/context", "", epoch=None)


def _labelled(draft: Draft, labels: Mapping[str, str]) -> Draft:
    return draft._replace(run={**draft.run, "Labels": {**(draft.run.get("Labels") or {}), **labels}}) if labels else draft


class _Job:
    """One build; `directory` is its own in the staging area."""

    def __init__(self, state: State, request: Request, directory: str, platform: str, context: Context) -> None:
        self._state, self._request, self._directory, self._platform, self._context = state, request, directory, platform, context
        self._documents: dict[tuple[str, str], dict[str, Any]] = {}

    def bring_images(self, plan: Plan) -> Plan:
        """Pull what the stages begin with and copy from; what their images keep as ONBUILD may ask for more."""
        done: set[int] = set()
        while True:
            fresh = [stage for stage in plan.stages if stage.number not in done]
            if not fresh:
                return plan
            for stage in fresh:
                done.add(stage.number)
                for source in stage.sources:
                    if source.kind == IMAGE:
                        self._bring(source, stage)
                triggers = self._document(stage.source, stage).get("config", {}).get("OnBuild") if stage.source.kind == IMAGE else None
                if triggers:
                    plan = stages.with_triggers(plan, stage.number, triggers, image=stage.source.name)

    def _bring(self, source: Source, stage: Stage) -> None:
        key = (source.name, stage.platform or self._platform)
        if key not in self._documents:
            policy = "always" if self._request.pull else "missing"
            row = images.ensure(self._state, source.name, pull=policy, platform=key[1], quiet=self._request.quiet)
            self._documents[key] = jsontext.loads(images.config_bytes(self._state, row.id))

    def _document(self, source: Source, stage: Stage) -> dict[str, Any]:
        return self._documents[source.name, stage.platform or self._platform]

    def run(self, plan: Plan) -> Built:
        """Each stage in a process; what it has made is in a file when it has ended well."""
        position = {stage.number: index for index, stage in enumerate(plan.stages)}
        jobs = [partial(self._build_stage, plan, stage) for stage in plan.stages]
        needs = [[position[number] for number in stage.needs] for stage in plan.stages]
        try:
            workers.run(jobs, at_once=os.cpu_count() or 1, needs=needs)
        finally:
            for stage in plan.stages:
                cgroup.remove(self._state, self._site_id(stage))
        return self._built(plan.target)

    def _site_id(self, stage: Stage) -> str:
        return f"{os.path.basename(self._directory)}-{stage.number}"

    def _build_stage(self, plan: Plan, stage: Stage, advance: workers.Advance) -> None:
        """In the stage's own process."""
        state = open_state(self._state.root.path)  # a connection is not for two processes
        directory = f"{self._directory}/{stage.number}"
        os.mkdir(directory, 0o700)
        site = build_site.Site(state, directory, self._site_id(stage), epoch=self._request.epoch)
        site.enter()
        given = Given(self._request.secrets, self._request.agents, self._context.directory, partial(self._layers_of, stage))
        name = stage.name or ("" if len(plan.stages) == 1 else f"stage-{stage.number}")
        work = build_stage.Work(name, plan, stage.instructions, given, self._context.excludes, self._request.cached)
        begin = self._begin(stage)
        report = Report(shows=not self._request.quiet)
        running = build_stage.Stage(site, work, begin.draft, report, arguments=begin.arguments)
        try:
            draft = running.build()
        finally:
            site.close()
        text = jsontext.dumps({"draft": draft._asdict(), "arguments": running.arguments})
        with open(f"{self._directory}/{stage.number}.json", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)

    def _begin(self, stage: Stage) -> Built:
        if stage.source.kind == IMAGE:
            return Built(drafts.of_image(self._document(stage.source, stage)), {})
        if stage.source.kind == SCRATCH:
            platform = parse_platform(stage.platform or self._platform)
            return Built(drafts.of_nothing({name: value for name, value in platform._asdict().items() if value}), {})
        below = self._built(stage.source.number)
        run = {name: value for name, value in below.draft.run.items() if name != "OnBuild"}
        return below._replace(draft=below.draft._replace(run=run, has_command=False))

    def _built(self, number: int) -> Built:
        with open(f"{self._directory}/{number}.json", encoding="utf-8", errors="surrogateescape") as file:
            document = jsontext.loads(file.read())
        fields = document["draft"]
        draft = Draft(**{**fields, "layers": tuple(fields["layers"]), "history": tuple(fields["history"])})
        return Built(draft, document["arguments"])

    def _layers_of(self, stage: Stage, name: str) -> tuple[str, ...]:
        source = stage.origin(name)
        if source.kind == IMAGE:
            return tuple(self._document(source, stage)["rootfs"]["diff_ids"])
        if source.kind == SCRATCH:
            return ()
        return self._built(source.number).draft.layers
