"""Which stages are built, in which order, and what names in them refer to."""

from __future__ import annotations

import pytest

from bayplan.build import stages, syntax
from bayplan.build.instructions import Arg, Copy, Run
from bayplan.build.stages import CONTEXT, IMAGE, SCRATCH, STAGE, Plan, Source
from bayplan.errors import Invalid


def plan(text: str, *, target: str = "", contexts: tuple[str, ...] = (), platform: str = "linux/amd64", **build_args: str) -> Plan:
    return stages.plan(syntax.parse(text.encode()), target=target, build_args=build_args, platform=platform, contexts=contexts)


def image(name: str) -> Source:
    return Source(IMAGE, f"docker.io/library/{name}")


def test_what_the_target_needs_is_built_in_the_files_order() -> None:
    text = "FROM a AS one\nFROM b AS two\nFROM c AS three\nCOPY --from=one x y\nFROM three\nCOPY --from=0 x y\n"
    assert [stage.number for stage in plan(text).stages] == [0, 2, 3], "and nothing else"
    assert [stage.number for stage in plan(text, target="TWO").stages] == [1], "a target is named in any case"
    assert plan(text).all[1].name == "two" and plan(text).target == 3, "the last stage is the target"


def test_names_refer_to_stages_contexts_and_images() -> None:
    made = plan(
        "FROM scratch AS Base\nFROM base AS next\nCOPY --from=BASE a b\nCOPY --from=alpine a b\nCOPY --from=ctx a b\n"
        "RUN --mount=from=0,target=/a --mount=type=cache,target=/b --mount=from=scratch,target=/c x\nFROM alpine:3@sha256:" + "a" * 64,
        contexts=("ctx",), target="next",
    )  # fmt: skip
    stage = made.stages[-1]
    assert stage.source == Source(STAGE, "base", 0) and made.stages[0].source == Source(SCRATCH), "a stage, or nothing"
    assert dict(stage.origins) == {
        "BASE": Source(STAGE, "base", 0), "alpine": image("alpine:latest"), "ctx": Source(CONTEXT, "ctx"), "0": Source(STAGE, "0", 0),
        "scratch": Source(SCRATCH),
    }, "in COPY and in mounts"  # fmt: skip
    assert stage.origin("alpine") == image("alpine:latest") and stage.needs == (0,), "each is found by its name"


def test_a_stages_own_name_is_the_image_until_it_is_there() -> None:
    made = plan("FROM alpine AS alpine\nFROM alpine AS alpine\nFROM alpine\n")
    assert [stage.source for stage in made.stages] == [image("alpine:latest"), Source(STAGE, "alpine", 0), Source(STAGE, "alpine", 1)], (
        "the last before"
    )


def test_the_last_of_stages_with_one_name_is_copied_from() -> None:
    made = plan("FROM a AS x\nFROM b AS x\nFROM scratch\nCOPY --from=x a b\n")
    assert made.stages[-1].needs == (1,), "as BuildKit finds it"


def test_a_named_context_replaces_an_image_and_a_stage() -> None:
    made = plan("FROM alpine:latest AS x\nRUN a\nFROM ubuntu AS y\nCOPY a b\n", contexts=("alpine", "y", "scratch"))
    assert made.all[0].source == Source(CONTEXT, "alpine"), "with its tag latest or without"
    assert made.all[1].source == Source(CONTEXT, "y") and not made.all[1].instructions, "nothing of the stage is run"
    assert plan("FROM scratch", contexts=("scratch",)).stages[0].source == Source(SCRATCH), "but scratch is nothing always"


def test_arguments_before_the_first_from() -> None:
    made = plan("ARG V=1\nARG W=$V.2\nARG X\nARG Y=d\nFROM a:${W}-$TARGETARCH${X:+-$X}-$Y", V="7", X="x", Y="")
    assert made.stages[0].source == image("a:7.2-amd64-x-"), "build arguments decide, then defaults"
    assert made.arguments["W"] == "7.2", "stages may take them up"
    assert plan("FROM 'scratch'").stages[0].source == Source(SCRATCH), "quotes are removed, too"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TARGETPLATFORM", "linux/arm/v7"), ("TARGETOS", "linux"), ("TARGETARCH", "arm"), ("TARGETVARIANT", "v7"),
        ("BUILDPLATFORM", "linux/amd64"),
        ("BUILDOS", "linux"), ("BUILDARCH", "amd64"), ("BUILDVARIANT", ""), ("TARGETSTAGE", "last"),
    ],
)  # fmt: skip
def test_automatic_arguments(name: str, value: str) -> None:
    made = stages.plan(syntax.parse(b"FROM a\nFROM b AS last"), build_args={}, platform="linux/arm/v7", build_platform="linux/amd64")
    assert made.arguments[name] == value, "as the reference lists them"


def test_a_stages_platform_is_what_is_said() -> None:
    text = "FROM --platform=$BUILDPLATFORM a\nFROM --platform=linux/aarch64 b\nFROM --platform=arm64 c AS y\n"
    assert [stage.platform for stage in plan(text).all] == ["linux/amd64", "linux/arm64", "linux/arm64"], "in its usual spelling"


def test_what_an_arg_of_a_stage_is() -> None:
    made = plan("ARG G=g\nARG N\nFROM a\nARG G\nARG G=own\nARG B=$A c=$B d e=\nARG TARGETARCH\nARG N", B="given")
    arguments = [one for one in made.stages[0].instructions if isinstance(one, Arg)]
    found = [stages.declared(made, one, {"A": "a"}) for one in arguments]
    assert found[0] == (("G", "g"),), "without a default, that before the first FROM"
    assert found[1] == (("G", "own"),), "with a default, its own"
    assert found[2] == (("B", "given"), ("c", "given"), ("d", None), ("e", "")), "a build argument decides, and each sees those before it"
    assert found[3:] == [(("TARGETARCH", "amd64"),), (("N", None),)], "automatic ones, too; declared only is unset"


def test_proxies_are_there_for_each_run() -> None:
    made = plan("FROM a", http_proxy="x", NO_PROXY="y", other="z")
    assert dict(made.proxies) == {"HTTP_PROXY": "x", "http_proxy": "x", "NO_PROXY": "y", "no_proxy": "y"}, "in both spellings"
    assert made.unused == ("other",), "and they are never unused"


def test_build_arguments_that_nothing_takes_are_told() -> None:
    made = plan("ARG a\nFROM x\nARG b\nONBUILD ARG c", a="", b="", c="", d="", e="", BUILDKIT_INLINE_CACHE="1", TARGETARCH="x")
    assert stages.unused_warning(made) == "One or more build-args [d e] were not consumed", "in Docker's words"
    assert stages.unused_warning(plan("FROM x")) == "", "or nothing"


def test_a_stage_begins_with_what_its_base_keeps() -> None:
    made = plan(
        "FROM a AS x\nONBUILD COPY --from=y a b\nONBUILD RUN <<E\nx\nE\nFROM c AS y\nFROM x\nUSER u\nFROM scratch\nCOPY --from=2 a b\n"
    )
    stage = made.all[2]
    assert [type(one).__name__ for one in stage.instructions] == ["Copy", "Run", "User"], "before its own"
    assert stage.needs == (0, 1) and [one.number for one in made.stages] == [0, 1, 2, 3], "what that needs is built, too"
    assert isinstance(stage.instructions[0], Copy) and stage.instructions[0].place.line == 2, "it stands where it was written"
    assert made.all[3].needs == (2,) and len(made.all[0].instructions) == 2, "and is not carried on"


def test_what_an_image_keeps_is_planned_when_it_is_known() -> None:
    made = plan("FROM a AS x\nFROM b AS y\nRUN x\n")
    again = stages.with_triggers(made, 1, ["COPY --from=x /a /b", "RUN <<E\nz\nE"], image="b")
    assert [one.number for one in made.stages] == [1] and [one.number for one in again.stages] == [0, 1], "the stage that it copies from"
    first = again.stages[-1].instructions[1]
    assert isinstance(first, Run) and first.command.words == ("z\n",), "before its own instructions"
    with pytest.raises(Invalid, match=r"^b: ONBUILD:1: "):
        stages.with_triggers(made, 1, ["COPY --from=9 a b"], image="b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN a\nFROM b", "Dockerfile:1: RUN stands before the first FROM"), ("ARG a", "Dockerfile: there is no FROM"),
        ("FROM $x", "the base's name $x is empty: x is set by no ARG"), ("ARG x\nFROM ${x}", "is empty"),
        ("FROM ${x:?missing}", "variable x: missing"),
        ("FROM a\nARG x=1\nFROM $x", "Dockerfile:3: the base's name"), ("FROM A", "Dockerfile:1: reading the image's name 'A'"),
        ("FROM --platform=$q a", "q is set by no ARG"), ("FROM --platform=a/b/c/d x", "a/b/c/d"),
        ("FROM a\nCOPY --from=1 x y", "Dockerfile:2: there is no stage 1: the file has 1"),
        ("FROM a\nCOPY --from=-1 x y", "there is no stage -1"), ("FROM a AS b\nCOPY --from=b x y", "the stage b needs itself: b needs b"),
        ("FROM a AS x\nCOPY --from=y a b\nFROM x AS y", "Dockerfile:1: the stage x needs itself: x needs y needs x"),
        ("FROM a\nCOPY --from=y a b\nFROM c AS y\nFROM scratch\nCOPY --from=0 a b", "files from the stage y, which comes only after it"),
        ("FROM a\nRUN --mount=from=A:b:c,target=/a x", "Dockerfile:2: reading the image's name"), ("FROM a\n" * 300, "at most 250 stages"),
        ("FROM a\nCOPY --from=99999999999999999999 a b", "there is no stage"), ("ARG a=${b?}\nFROM c", "Dockerfile:1: variable b"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_what_cannot_be_planned_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(Invalid) as error:
        plan(text)
    assert message in str(error.value), "what is wrong with what"


def test_an_unknown_target_is_an_error() -> None:
    with pytest.raises(Invalid, match="Dockerfile: there is no stage 'biuld' to build; did you mean build"):
        plan("FROM a AS build", target="biuld")
    with pytest.raises(Invalid, match="there is no stage 'x' to build"):
        plan("FROM a", target="x")


def test_a_stage_after_the_target_may_be_anything_that_can_be_read() -> None:
    assert [one.number for one in plan("FROM a AS x\nFROM b\nCOPY --from=x a b\nFROM c\n", target="x").stages] == [0], "it is not looked at"
