"""The verbs that name, move and remove images: each compares first, so that a check says what a run does, and a second run does nothing."""

from __future__ import annotations

import time

from bayplan.engine import already, clock, images
from bayplan.engine.state import State, open_state
from bayplan.errors import NotFound
from bayplan.model.image_requests import Holding, Load, parse_copy, parse_load, parse_prune, parse_push, parse_save, parse_tag
from bayplan.model.reference import parse_reference
from bayplan.model.result import Request, Response, Step
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from bayplan.engine.prune import Which
    from bayplan.model.image_requests import Prune


def tag(request: Request) -> Response:
    """Give an image names. Raises NotFound, Invalid."""
    want, state = parse_tag(request.want), open_state(request.root)
    try:
        row = images.find(state, want.name)
    except NotFound as error:
        return _foretold(request, [Step("tag", "image", parse_reference(name).familiar) for name in want.tags], error)
    before = {name: images.look_up(state, name) for name in want.tags}
    moving = [name for name, there in before.items() if there is None or there.id != row.id]
    steps = [Step("tag", "image", parse_reference(name).familiar, (_instead(before[name]),)) for name in moving]
    if moving and not request.check:
        state = open_state(request.root, create=True)
        for name in moving:
            images.tag(state, row.id, name)
    sides = [(step, {"Id": _id(before[name])}, {"Id": row.id}) for step, name in zip(steps, moving)]
    return _response(sides)._replace(result=None if request.check else images.document(state, row))


def _foretold(request: Request, steps: Iterable[Step], error: NotFound) -> Response:
    """A check cannot see what the tasks before it would make. Raises `error` in a run."""
    if not request.check:
        raise error
    return Response(tuple(steps), warnings=(f"{error} (a task before this one may make it, and a check does not)",))


def _id(row: records.ImageRow | None) -> str:
    return row.id if row else ""


def _instead(row: records.ImageRow | None) -> str:
    return f"the name is that of {row.id[7:19]}" if row else "there is no such name"


def push(request: Request) -> Response:
    """Push what the registry does not have under its name. Raises as push.push does, and NotFound, Denied in check mode, too."""
    from bayplan.engine import push as engine

    want, state = parse_push(request.want), open_state(request.root)
    try:
        wanted = engine.wanted(state, want.name, every_tag=want.every_tag)
    except NotFound as error:
        return _foretold(request, [Step("push", "image", parse_reference(want.name).familiar)], error)
    ends = {ref: already.pushed(state, ref, row, format=want.format, auth=want.auth) for ref, row in wanted}
    sending = [reference for reference, each in ends.items() if not each.same]
    digests = {reference: each.there for reference, each in ends.items()}
    if sending and not request.check:
        state = open_state(request.root, create=True)
        for reference in sending:
            (pushed,) = engine.push(state, reference.canonical, compression=want.compression, format=want.format, auth=want.auth)
            digests[reference] = str(pushed.digest)
    sides = []
    for reference in sending:
        there, after = ends[reference].there, ends[reference].here if request.check else digests[reference]
        why = f"the registry has {there}" if there else "the registry has nothing of this name"
        step = Step("push", "image", reference.familiar, (why,))
        sides.append((step, {"Digest": there}, {"Digest": after}))
    result = [{"Name": reference.familiar, "Digest": digest} for reference, digest in digests.items()]
    return _response(sides)._replace(result=None if request.check else result)


def save(request: Request) -> Response:
    """Write an archive, where there is none that holds the same. Raises as images.save does."""
    want, state = parse_save(request.want), open_state(request.root)
    step = Step("save", "archive", want.path, ("it does not hold these images, and nothing else",))
    try:
        same = already.saved(state, want)
    except NotFound as error:
        return _foretold(request, [step], error)
    if not same and not request.check:
        state = open_state(request.root, create=True)
        images.save(state, want.names, want.path, want.format)
    ids = [images.find(state, name).id for name in want.names]
    response = _response([] if same else [(step, {}, {"Ids": ids})])
    return response._replace(result=None if request.check else {"Path": want.path, "Ids": ids})


def load(request: Request) -> Response:
    """Take in what an archive holds, where an image or a name of it is not here. In place of an archive that is elsewhere, the request may
    say what is in it: then nothing is done, and the steps say whether to send it. Raises as images.load does."""
    want, state = parse_load(request.want), open_state(request.root)
    try:
        holds = _holds(state, want)
    except NotFound as error:
        return _foretold(request, [Step("load", "archive", want.archive)], error)
    steps = [step for each in holds for step in _missing(state, each)]
    response = _response((step, {}, {"Id": image_id}) for step, image_id in steps)
    if request.check or (steps and not want.archive):
        return response
    if steps:
        state = open_state(request.root, create=True)
        images.load(state, want.archive)
    return response._replace(result=[images.document(state, images.find(state, each.id)) for each in holds])


def _holds(state: State, want: Load) -> tuple[Holding, ...]:
    if want.holds is not None and not want.archive:
        return want.holds
    from bayplan.engine import archives

    return tuple(Holding(str(image_id), names) for image_id, names in archives.identify(want.archive, root=state.root))


def _missing(state: State, held: Holding) -> Iterator[tuple[Step, str]]:
    """A step for each name that does not have its image, or for the image where it has none."""
    for name in held.names:
        there = records.image_named(state.records, name)
        if there is None or there.id != held.id:
            yield Step("load", "image", parse_reference(name).familiar, (_instead(there),)), held.id
    if not held.names and images.look_up(state, held.id) is None:
        yield Step("load", "image", held.id, ("it is not on the host",)), held.id


def copy(request: Request) -> Response:
    """Copy an image, where the target does not have it. Raises as copying.copy does."""
    from bayplan.engine import copying
    from bayplan.model.location import STORE

    want, state = parse_copy(request.want), open_state(request.root)
    try:
        ends = already.copied(state, want)
    except NotFound as error:
        return _foretold(request, [Step("copy", "image", str(want.target))], error)
    step = Step("copy", "image", str(want.target), (f"it has {ends.there}" if ends.there else "it has nothing of this name",))
    if ends.same or request.check:
        sides = [] if ends.same else [(step, {"Digest": ends.there}, {"Digest": ends.here})]
        return _response(sides)._replace(result=None if request.check else {"Digest": ends.there})
    done = copying.copy(
        want.source,
        want.target,
        platform=want.platform,
        every=want.every,
        format=want.format,
        state=lambda: open_state(request.root, create=want.target.transport == STORE),
        tell=lambda descriptor, outcome: None,
    )
    digest = str(done.digest)
    return _response([(step, {"Digest": ends.there}, {"Digest": digest})])._replace(result={"Digest": digest})


def prune(request: Request) -> Response:
    """Remove unused images, and what of the build cache no image has. Raises Invalid."""
    from bayplan.engine import prune as engine

    want, state = parse_prune(request.want), open_state(request.root)
    which = _which(want)
    going = engine.unused_images(state, which, every=want.every)
    cached = _steps(state, which, want, {row.id for row in going})
    names = records.image_names(state.records)
    sides: list[tuple[Step, dict[str, Any], dict[str, Any]]] = []
    for row in going:
        called = tuple(parse_reference(name).familiar for name in names.get(row.id, ()))
        sides.append((Step("remove", "image", row.id, called), {"Names": list(called)}, {}))
    sides += [(Step("remove", "build cache", key), {}, {}) for key in cached]
    size = 0
    if sides and not request.check:
        state = open_state(request.root, create=True)
        every = want.every
        done = engine.prune(
            state, images=True, all_images=every, build_cache=want.build_cache, all_cache=every and want.build_cache, which=which
        )
        size = done.bytes
    result = {"Ids": [row.id for row in going], "Steps": list(cached), "Bytes": size}
    return _response(sides)._replace(result=None if request.check else result)


def _steps(state: State, which: Which, want: Prune, gone: set[str]) -> tuple[str, ...]:
    from bayplan.engine import prune as engine

    return engine.unused_steps(state, which, every=want.every, without=gone) if want.build_cache else ()


def _which(want: Prune) -> Which:
    from bayplan.engine.prune import ALL, Which

    if not (want.older or want.labels or want.without):
        return ALL
    limit = clock.rfc3339(time.time_ns() - want.older)  # times are written in UTC: the text that is smaller is earlier
    return Which(want.labels, want.without, (lambda created: created < limit) if want.older else None)


def _response(sides: Iterable[tuple[Step, dict[str, Any], dict[str, Any]]]) -> Response:
    """Steps, each with what is there before and after."""
    listed = [(f"{step.kind} {step.name}", step, before, after) for step, before, after in sides]
    befores = {key: before for key, _, before, _ in listed}
    return Response(tuple(step for _, step, _, _ in listed), befores, {key: after for key, _, _, after in listed})
