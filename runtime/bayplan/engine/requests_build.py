"""The verb `build`: an image from a Dockerfile, where its name does not have that image yet."""

from __future__ import annotations

import contextlib
import os
import tempfile

from bayplan.engine import building, images
from bayplan.engine.state import State, open_state
from bayplan.model.image_requests import Build, parse_build
from bayplan.model.reference import parse_reference
from bayplan.model.result import Request, Response, Step
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def build(request: Request) -> Response:
    """Build, or in check mode say whether all steps are in the cache and the names have what comes of them. Raises what building.build
    raises; names have moved, or none has."""
    want = parse_build(request.want)
    with _given(want) as given:
        if request.check:
            state = open_state(request.root)
            told = building.predict(state, given)
            return _response(want, _ids(state, want), told.id, told.missing)
        state = open_state(request.root, create=True)
        before = _ids(state, want)
        row = building.build(state, given)
        return _response(want, before, row.id, "")._replace(result=images.document(state, images.find(state, row.id)))


@contextlib.contextmanager
def _given(want: Build) -> Iterator[building.Request]:
    """What there is to build, with files for what came as text."""
    with tempfile.TemporaryDirectory(prefix="bayplan-") as directory:
        dockerfile = want.dockerfile
        if want.text is not None:
            dockerfile = f"{directory}/Dockerfile"
            _write(dockerfile, want.text)
            if want.ignore:
                _write(f"{dockerfile}.dockerignore", want.ignore)
        elif dockerfile and os.path.isdir(want.context):
            dockerfile = os.path.join(want.context, dockerfile)  # and not one of the directory that we happen to be in
        if not want.context:
            os.mkdir(f"{directory}/nothing")
        yield building.Request(
            context=want.context or f"{directory}/nothing",
            dockerfile=dockerfile,
            tags=want.names,
            target=want.target,
            build_args=want.args,
            labels=want.labels,
            platform=want.platform,
            secrets={name: secret.reveal().encode("utf-8", "surrogateescape") for name, secret in want.secrets.items()},
            cached=not want.nocache,
            pull=want.pull,
            quiet=True,
            epoch=want.epoch,
        )


def _write(path: str, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)


def _ids(state: State, want: Build) -> dict[str, str]:
    """What the names have now, "" for nothing."""
    found = {name: records.image_named(state.records, name) for name in want.names}
    return {name: row.id if row else "" for name, row in found.items()}


def _response(want: Build, before: Mapping[str, str], made: str, missing: str) -> Response:
    """`made` is the id that comes of it, or "" where the step `missing` is yet to be made."""
    moving = [name for name in want.names if not made or before[name] != made]
    why = missing or f"it comes to {made[7:19]}"
    steps = tuple(Step("build", "image", parse_reference(name).familiar, (_why(before[name], why),)) for name in moving)
    keys = [(f"image {step.name}", name) for step, name in zip(steps, moving)]
    return Response(steps, {key: {"Id": before[name]} for key, name in keys}, {key: {"Id": made or f"new: {missing}"} for key, _ in keys})


def _why(there: str, why: str) -> str:
    return f"{why}, and the host has {there[7:19]}" if there else f"{why}, and the host has no such image"
