"""Building an image from a Dockerfile: its stages, each in a process of its own, those that need nothing of each other at once."""

from __future__ import annotations

import contextlib
import os
from functools import partial

from bayplan.build import draft as drafts
from bayplan.build import stages, syntax
from bayplan.build.draft import Draft
from bayplan.build.stages import CONTEXT, IMAGE, SCRATCH, STAGE, Plan, Source, Stage
from bayplan.engine import build_context, build_report, build_site, build_stage, clock, guard, images, sealing
from bayplan.engine.build_context import Context
from bayplan.engine.build_mounts import Given
from bayplan.engine.build_report import Report
from bayplan.engine.build_stage import Uncached
from bayplan.engine.state import State, open_state
from bayplan.errors import BayplanError, NotFound
from bayplan.model import jsontext
from bayplan.model.image import machine_platform, parse_platform
from bayplan.model.reference import parse_reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.store import blobs, locks, staging, workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from bayplan.store.records import ImageRow

_IMAGE = "docker-image://"


class Request(NamedTuple):
    """What to build. Of `context` and `dockerfile` see build_context.open_context, of `secrets` and `agents` build_mounts.Given. `epoch` is
    SOURCE_DATE_EPOCH; `contexts` are directories, or images as docker-image://NAME, by the names that COPY --from has for them."""

    context: str
    dockerfile: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    platform: str = ""
    secrets: Mapping[str, bytes] = {}
    agents: Mapping[str, str] = {}
    contexts: Mapping[str, str] = {}
    allowed: frozenset[str] = frozenset()
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    cached: bool = True
    pull: bool = False
    quiet: bool = False
    epoch: int | None = None


class Built(NamedTuple):
    """A stage that is done: what became of it, and the values of its ARGs."""

    draft: Draft
    arguments: Mapping[str, str]


class Prediction(NamedTuple):
    """What a build would come to: the image's id, or "" and what would have to be made or brought first."""

    id: str
    missing: str = ""


def build(state: State, request: Request) -> ImageRow:
    """Build and record the image. Raises Invalid with the Dockerfile's line, NotFound, Denied, Unavailable, Kernel; steps that were done
    stay in the cache, and no name has moved."""
    build_site.verify_driver(state)
    names = tuple(parse_reference(tag).canonical for tag in request.tags)
    held = locks.content(state.root.path, exclusive=False)
    with guard.clearing(state), held, staging.claimed(state.root, f"build-{os.urandom(6).hex()}") as directory:
        document, diff_ids = _built(state, request, directory)
        return sealing.make(state, document, diff_ids=diff_ids, names=names)


def predict(state: State, request: Request) -> Prediction:
    """What `build` would come to by what is in the cache. Nothing is run, pulled or kept; where everything is cached, what the web has
    for an ADD is fetched, and what the registries have for `pull` is asked. Raises as `build` does."""
    with _aside(state) as directory:
        try:
            document, diff_ids = _built(state, request, directory, dry=True)
        except Uncached as reason:
            return Prediction("", str(reason))
    return Prediction(str(blobs.digest_of(sealing.config_bytes(document, diff_ids))))


@contextlib.contextmanager
def _aside(state: State) -> Iterator[str]:
    """A directory for what a build looks at; a state that is not there is not made for it."""
    if os.path.isdir(state.root.staging):
        with locks.content(state.root.path, exclusive=False), staging.claimed(state.root, f"build-{os.urandom(6).hex()}") as directory:
            yield directory
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="bayplan-") as directory:
        yield directory


def _built(state: State, request: Request, directory: str, *, dry: bool = False) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config of what is built, and its layers, all in the store. Raises Uncached where something would be made, and it is `dry`."""
    platform = str(parse_platform(request.platform) if request.platform else machine_platform(os.uname().machine))
    context = build_context.open_context(_fetching(state, directory), request.context, request.dockerfile)
    file = syntax.parse(context.dockerfile, context.name)
    planned = stages.plan(file, target=request.target, build_args=request.build_args, platform=platform, contexts=request.contexts)
    job = _Job(state, request, directory, platform, context, dry=dry)
    planned = job.bring_images(planned)
    if not (dry or request.quiet):
        build_report.warn(file, planned, job.environments(planned))
    draft = _labelled(job.run(planned).draft, request.labels)
    created = str(draft.history[-1].get("created") or "") if draft.history else clock.now()
    return drafts.document(draft, created=created), draft.layers


def _fetching(state: State, directory: str) -> build_site.Site:
    os.mkdir(f"{directory}/context", 0o700)
    return build_site.Site(state, f"{directory}/context", "", epoch=None)


def _labelled(draft: Draft, labels: Mapping[str, str]) -> Draft:
    return draft._replace(run={**draft.run, "Labels": {**(draft.run.get("Labels") or {}), **labels}}) if labels else draft


class _Job:
    """One build; `directory` is its own in the staging area."""

    def __init__(self, state: State, request: Request, directory: str, platform: str, context: Context, *, dry: bool) -> None:
        self._state, self._request, self._directory, self._platform, self._context = state, request, directory, platform, context
        self._dry = dry
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
                    self._bring(source, stage)
                base = self._documents.get((self._image(stage.source), stage.platform or self._platform), {})
                triggers = base.get("config", {}).get("OnBuild")
                if triggers:
                    plan = stages.with_triggers(plan, stage.number, triggers, image=stage.source.name)

    def _image(self, source: Source) -> str:
        """The image's name; "" for what is none."""
        if source.kind == IMAGE:
            return source.name
        given = self._request.contexts.get(source.name, "") if source.kind == CONTEXT else ""
        return given[len(_IMAGE) :] if given.startswith(_IMAGE) else ""

    def _bring(self, source: Source, stage: Stage) -> None:
        key = (self._image(source), stage.platform or self._platform)
        if key[0] and key not in self._documents:
            row = self._there(*key) if self._dry else self._brought(*key)
            self._documents[key] = jsontext.loads(images.config_bytes(self._state, row.id))

    def _brought(self, name: str, platform: str) -> ImageRow:
        policy = "always" if self._request.pull else "missing"
        try:
            return images.ensure(self._state, name, pull=policy, platform=platform, quiet=self._request.quiet)
        except BayplanError as error:
            error.args = (f"bringing {name}: {error}",)
            raise

    def _there(self, name: str, platform: str) -> ImageRow:
        """The image that need not be pulled. Raises Uncached."""
        row = images.look_up(self._state, name)
        if row is None or not images.matches(self._state, row, platform):
            raise Uncached(f"the image {name} is not on the host")
        if self._request.pull and images.remote_id(name, platform=platform) != row.id:
            raise Uncached(f"the registry has another image {name}")
        return row

    def _document(self, source: Source, stage: Stage) -> dict[str, Any]:
        return self._documents[self._image(source), stage.platform or self._platform]

    def environments(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """The names of the variables that the stages' images set, by the image's whole name."""
        found = {}
        for stage in plan.stages:
            if self._image(stage.source):
                name = parse_reference(self._image(stage.source)).canonical
                found[name] = tuple(drafts.of_image(self._document(stage.source, stage)).environment)
        return found

    def run(self, plan: Plan) -> Built:
        """Each stage in a process; what it has made is in a file when it has ended well."""
        position = {stage.number: index for index, stage in enumerate(plan.stages)}
        jobs = [partial(self._build_stage, plan, stage) for stage in plan.stages]
        needs = [[position[number] for number in stage.needs] for stage in plan.stages]
        try:
            workers.run(jobs, at_once=os.cpu_count() or 1, needs=needs)
        finally:
            for stage in plan.stages:
                if os.path.exists(build_site.mark(f"{self._directory}/{stage.number}")):
                    from bayplan.engine import cgroup  # where something was run

                    cgroup.remove(self._state, self._site_id(stage))
        return self._built(plan.target)

    def _site_id(self, stage: Stage) -> str:
        return f"{os.path.basename(self._directory)}-{stage.number}"

    def _build_stage(self, plan: Plan, stage: Stage, advance: workers.Advance) -> None:
        """In the stage's own process."""
        try:
            built = self._work_on(plan, stage)
            document: dict[str, Any] = {"draft": built.draft._asdict(), "arguments": built.arguments}
        except Uncached as reason:
            document = {"uncached": str(reason)}
        with open(f"{self._directory}/{stage.number}.json", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(jsontext.dumps(document))

    def _work_on(self, plan: Plan, stage: Stage) -> Built:
        state = open_state(self._state.root.path)  # a connection is not for two processes
        directory = f"{self._directory}/{stage.number}"
        os.mkdir(directory, 0o700)
        site = build_site.Site(state, directory, self._site_id(stage), epoch=self._request.epoch)
        site.enter()
        asked = self._request
        origin = partial(self._origin, site, stage)
        given = Given(asked.secrets, asked.agents, self._context.directory, origin, asked.allowed, asked.network, asked.hosts)
        name = stage.name or ("" if len(plan.stages) == 1 else f"stage-{stage.number}")
        work = build_stage.Work(name, plan, stage.instructions, given, self._context, self._request.cached, self._dry)
        begin = self._begin(stage)
        report = Report(shows=not self._request.quiet)
        running = build_stage.Stage(site, work, begin.draft, report, arguments=begin.arguments)
        try:
            return Built(running.build(), running.arguments)
        finally:
            site.close()

    def _begin(self, stage: Stage) -> Built:
        if self._image(stage.source):
            return Built(drafts.of_image(self._document(stage.source, stage)), {})
        if stage.source.kind == SCRATCH:
            platform = parse_platform(stage.platform or self._platform)
            return Built(drafts.of_nothing({name: value for name, value in platform._asdict().items() if value}), {})
        if stage.source.kind == CONTEXT:
            raise stage.place.wrong("a stage begins with an image or another stage, and this context is a directory")
        below = self._built(stage.source.number)
        run = {name: value for name, value in below.draft.run.items() if name != "OnBuild"}
        return below._replace(draft=below.draft._replace(run=run, has_command=False))

    def _built(self, number: int) -> Built:
        with open(f"{self._directory}/{number}.json", encoding="utf-8", errors="surrogateescape") as file:
            document = jsontext.loads(file.read())
        if "uncached" in document:
            raise Uncached(document["uncached"])
        fields = document["draft"]
        draft = Draft(**{**fields, "layers": tuple(fields["layers"]), "history": tuple(fields["history"])})
        return Built(draft, document["arguments"])

    def _origin(self, site: build_site.Site, stage: Stage, name: str) -> tuple[str, str]:
        source = stage.origin(name)
        if source.kind == CONTEXT and not self._image(source):
            directory = self._request.contexts[source.name]
            if not os.path.isdir(directory):
                raise NotFound(f"the context {source.name} is {directory}, and there is no such directory")
            return os.path.abspath(directory), ""
        layers: tuple[str, ...] = ()
        if self._image(source):
            layers = tuple(self._document(source, stage)["rootfs"]["diff_ids"])
        elif source.kind == STAGE:
            layers = self._built(source.number).draft.layers
        return site.source(layers), " ".join(("layers", *layers))
