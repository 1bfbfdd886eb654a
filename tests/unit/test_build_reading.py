"""Every instruction in all its forms, as a value."""

from __future__ import annotations

from typing import Any

import pytest

from bayplan.build import reading, syntax
from bayplan.build.instructions import Command, Copy, Health, Inline, OnBuild, Run, RunMount
from bayplan.errors import Invalid

SECOND = 1_000_000_000


def read(text: str) -> Any:
    file = syntax.parse(text.encode())
    return reading.read(file.statements[0], escape=file.escape)


def values(text: str) -> tuple[Any, ...]:
    """All but the place."""
    return tuple(read(text))[1:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a", ("a", "", "")), ("FROM --platform=$P a AS Name", ("a", "$P", "name")), ("from a as b-1_2.c", ("a", "", "b-1_2.c")),
        ("ARG a", ((("a", None),),)), ("ARG a= b=c 'd e'=f", ((("a", ""), ("b", "c"), ("'d e'", "f")),)),
        ("ENV a=b c=\"d e\" f='g h' i=j\\ k", ((("a", "b"), ("c", '"d e"'), ("f", "'g h'"), ("i", "j\\ k")),)),
        ("ENV a   b c=d", ((("a", "b c=d"),),)),
        ("LABEL a.b=c \"d e\"=f", ((("a.b", "c"), ('"d e"', "f")),)), ("LABEL a b", ((("a", "b"),),)), ("ENV a=", ((("a", ""),),)),
        ("LABEL a=1\u00a0b=2\fc=3\rd=4 #e=5", ((("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("#e", "5")),)),
        ("LABEL\fa=1", ((("a", "1"),),)),
        ("ENV a\t\"b", ((("a", '"b'),),)),
        ('CMD ["a", "b c"]', (Command(("a", "b c"), shell=False),)), ("CMD a b", (Command(("a b",), shell=True),)),
        ("CMD []", (Command((), shell=False),)),
        ("CMD ['a']", (Command(("['a']",), shell=True),)), ('CMD ["a"] b', (Command(('["a"] b',), shell=True),)),
        ("CMD", (Command(("",), shell=True),)),
        ('ENTRYPOINT ["a",]', (Command(('["a",]',), shell=True),)),
        ('ENTRYPOINT  [ "\\u00e9\\ud800" ]', (Command(("é\ufffd",), shell=False),)),
        ("ENTRYPOINT [NaN]", (Command(("[NaN]",), shell=True),)), ('SHELL ["a", "-c"]', (("a", "-c"),)), ("WORKDIR a b", ("a b",)),
        ("USER a:b", ("a:b",)),
        ("EXPOSE 80 81/udp $P", (("80", "81/udp", "$P"),)), ("VOLUME /a  /b", (("/a", "/b"),)),
        ('VOLUME [" /a ", "/b c"]', (("/a", "/b c"),)),
        ("STOPSIGNAL SIGINT", ("SIGINT",)), ("MAINTAINER A B <a@b>", ("A B <a@b>",)),
        ("ONBUILD copy --chown=a b c", ("copy --chown=a b c",)),
        ("ONBUILD RUN <<E\nx\nE", ("RUN <<E\nx\nE",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_instruction_has_its_values(text: str, expected: tuple[Any, ...]) -> None:
    assert values(text) == expected, "words stay as they are written"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HEALTHCHECK NONE", ("NONE",)), ("HEALTHCHECK none", ("NONE",)), ("HEALTHCHECK CMD a b", ("CMD-SHELL", "a b")),
        ('HEALTHCHECK --interval=1m cmd ["a", "b"]', ("CMD", "a", "b")),
    ],
)  # fmt: skip
def test_a_healthcheck_has_its_test(text: str, expected: tuple[str, ...]) -> None:
    assert read(text).healthcheck.test == expected, "in a shell or not"


def test_a_healthcheck_has_its_times() -> None:
    health = read("HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --start-interval=1s --retries=7 CMD a")
    assert isinstance(health, Health), "of its own kind"
    assert health.healthcheck[1:] == (90 * SECOND, SECOND // 2, 7, 2 * SECOND, SECOND), "in nanoseconds"
    assert read("HEALTHCHECK --interval=.5s CMD a").healthcheck.interval == SECOND // 2, "as Go reads it"
    assert read("HEALTHCHECK --interval=0s --retries=0 CMD a").healthcheck == read("HEALTHCHECK CMD a").healthcheck, "0 is the default"


def test_a_copy_has_its_flags() -> None:
    copy = read("COPY --from=b --chown=1:2 --chmod=u+x --link --parents --exclude=*.a --exclude=*.b x y /z")
    expected = Copy(
        copy.place, ("x", "y"), "/z", origin="b", chown="1:2", chmod="u+x", link=True, parents=True, exclude=("*.a", "*.b")
    )  # fmt: skip
    assert copy == expected, "all of COPY's"
    add = read('ADD --checksum=sha256:x --keep-git-dir=true --unpack=false --link=FALSE ["a b", "/c"]')
    assert (add.add, add.checksum, add.keep_git, add.unpack, add.link, add.sources) == (True, "sha256:x", True, False, False, ("a b",)), (
        "ADD's"
    )
    assert read("ADD a b").unpack is None, "what follows from the source"


def test_here_documents_are_sources_of_a_copy() -> None:
    copy = read("COPY a <<-A <<'B' /d\n\t\t1\n\tA\n\t2\nB")
    assert copy.sources == ("a",) and copy.destination == "/d", "beside files"
    assert copy.inline == (Inline("A", "1\n", expands=True), Inline("B", "\t2\n", expands=False)), "tabs are taken away where <<- says so"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN <<E\na\nb\nE", "a\nb\n"), ("RUN <<-E\n\ta\nE", "a\n"), ("RUN cat <<A 3<<B >c\n1\nA\n2\nB", "cat <<A 3<<B >c\n1\nA\n2\nB"),
        ("RUN cat <<-A\n\t1\n\tA", "cat <<-A\n\t1\nA"), ("RUN  a  b ", "a  b"), ("RUN", ""),
    ],
)  # fmt: skip
def test_a_shell_reads_here_documents_itself(text: str, command: str) -> None:
    run = read(text)
    assert run.command == Command((command,), shell=True) and not run.inline, "but one that is all there is, is the script"


def test_a_here_document_that_is_a_program_is_a_file() -> None:
    run = read("RUN <<-E\n\t#!/usr/bin/env python3\n\tprint(1)\nE")
    assert run.command == Command(("/dev/pipes/E",), shell=True), "which is run by its path"
    assert run.inline == (Inline("E", "#!/usr/bin/env python3\nprint(1)\n", expands=False),), "without the tabs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", RunMount("bind", "/a", readonly=True)), ("type=bind,src=/s,dst=/a,rw,from=b", RunMount("bind", "/a", "/s", "b")),
        ("source=/s,destination=/a,readonly=false", RunMount("bind", "/a", "/s")),
        ("type=bind,target=/a,rw=false", RunMount("bind", "/a", readonly=True)),
        ("type=cache,target=/a/b/../c/", RunMount("cache", "/a/b/../c/", id="/a/c")),
        ("type=cache,target=x,ro", RunMount("cache", "x", id="x", readonly=True)),
        ("TYPE=Cache,target=/a,sharing=LOCKED,mode=0755,uid=1", RunMount("cache", "/a", id="/a", sharing="locked", mode="0755", uid="1")),
        ("type=tmpfs,target=/a,size=64m", RunMount("tmpfs", "/a", size=64 << 20)),
        ("type=secret,id=s", RunMount("secret", "/run/secrets/s", id="s", readonly=True)),
        ("type=secret,target=/a/b", RunMount("secret", "/a/b", id="b", readonly=True)),
        ("type=secret,src=s,required", RunMount("secret", "/run/secrets/s", id="s", readonly=True, required=True)),
        ("type=secret,id=s,env=S", RunMount("secret", id="s", readonly=True, environment="S")),
        ("type=secret,id=a/b", RunMount("secret", "/run/secrets/b", id="a/b", readonly=True)),
        ("type=secret,id=s,env=S,target=/a", RunMount("secret", "/a", id="s", readonly=True, environment="S")),
        ("type=ssh", RunMount("ssh", id="default", readonly=True)),
        ("required=true,type=ssh,id=x", RunMount("ssh", id="x", readonly=True, required=True)),
        ('type=bind,"\\"target=/a,b\\""', None), ("type=cache,target=/../a", RunMount("cache", "/../a", id="/a")),
    ],
)  # fmt: skip
def test_a_mount_has_the_defaults_of_its_type(text: str, expected: RunMount | None) -> None:
    if expected is None:  # quotes are for flags; escaped ones are for the list
        assert read(f"RUN --mount={text} x").options == ('type=bind,"target=/a,b"',), "as the list is written"
    else:
        assert read(f"RUN --mount={text} x").mounts == (expected,), "synonyms are one"


def test_a_run_has_its_flags() -> None:
    run = read("RUN --network=none --security=insecure --mount=target=/a --mount=target=/b x")
    assert isinstance(run, Run) and (run.network, run.security, len(run.mounts)) == ("none", "insecure", 2), "mounts many times"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM", "one or three arguments"), ("FROM a b", "one or three arguments"), ("FROM a AS", "one or three"),
        ("FROM a IS b", "one or three"),
        ("FROM a AS 1b", "'1b' is no name for a stage"), ("FROM a AS b/c", "no name for a stage"),
        ("FROM --platfrom=x a", "unknown flag --platfrom; did you mean --platform"),
        ("FROM --platform a", "--platform needs a value"), ("ARG", "at least one argument"), ("ARG =a", "a name is empty"),
        ("ENV", "at least one"),
        ("ENV a", "a name and a value"), ("ENV a=b c", "no = in 'c'"), ("ENV =b", "a name is empty"), ("ENV a=b =c", "a name is empty"),
        ("LABEL", "at least one"),
        ("COPY a", "at least two arguments are needed, sources and destination, and there is one"), ("COPY", "and there are none"),
        ('COPY ["a"]', "there is one"),
        ("COPY a <<E\nE", "not a destination"), ("COPY --link=x a b", "--link is true or false"),
        ("COPY --link= a b", "--link is true or false"),
        ("COPY --chown=a --chown=b c d", "given twice"), ("COPY --from=$x a b", "--from takes no variables"),
        ("COPY --checksum=x a b", "unknown flag --checksum"),
        ("ADD --from=x a b", "unknown flag --from"), ("ADD --parents a b", "unknown flag --parents"), ("RUN []", "nothing to run"),
        ('RUN ["a", 1]', "strings only"),
        ('CMD ["a\\u0000"]', "null character"), ("RUN --network=x a", "--network is one of"),
        ("RUN --security=x a", "--security is one of"),
        ("RUN --mount=type=x a", "unknown mount type 'x'"), ("RUN --mount=tgt=x a", "unknown option 'tgt' of a mount; did you mean target"),
        ("RUN --mount=target a", "'target' needs a value"), ("RUN --mount=from=$x,target=/a b", "from= takes no variables"),
        ("RUN --mount=type=bind,size=1 a", "size= does not apply to a mount of the type bind, but to tmpfs"),
        ("RUN --mount=required,target=/a x", "required= does not apply"),
        ("RUN --mount=type=tmpfs,mode=1,target=/a x", "mode= does not apply"),
        ("RUN --mount=sharing=x,type=cache,target=/a x", "sharing= is one of"),
        ("RUN --mount=type=cache,target=/a,mode=9 x", "mode= is an octal number"),
        ("RUN --mount=type=cache,target=/a,uid=-1 x", "uid= is a whole number"),
        ("RUN --mount=type=cache,target=/a,ro=x y", "readonly= is true or false"), ("RUN --mount=type=secret x", "which secret is missing"),
        ("RUN --mount=type=secret,id=a,src=b x", "not both"), ("RUN --mount=type=secret,id=a,from=b x", "has no from="),
        ("RUN --mount=type=bind,env=x y", "env= does not apply"),
        ("RUN --mount=type=tmpfs,target=/a,size=x y", "a size such as"), ("SHELL /bin/sh", "JSON list"), ("SHELL []", "JSON list"),
        ("EXPOSE", "at least one"),
        ("VOLUME", "at least one"), ("VOLUME []", "at least one"), ('VOLUME [""]', "path is empty"), ("USER", "exactly one"),
        ("WORKDIR", "exactly one"),
        ("STOPSIGNAL", "exactly one"), ("MAINTAINER", "exactly one"), ("MAINTAINER --x y", "unknown flag --x; it takes none"),
        ("HEALTHCHECK", "CMD with a command is needed, or NONE"),
        ("HEALTHCHECK NONE a", "takes no arguments"), ("HEALTHCHECK CMD", "a command is missing"),
        ("HEALTHCHECK CMD []", "a command is missing"), ("HEALTHCHECK a", "neither CMD nor NONE"),
        ("HEALTHCHECK --interval=5 CMD a", "--interval: a duration with its unit"), ("HEALTHCHECK --interval=1us CMD a", "at least 1ms"),
        ("HEALTHCHECK --interval=1d CMD a", "hours, minutes and seconds"),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries: "),
        ("ONBUILD", "an instruction is needed"), ("ONBUILD ONBUILD RUN a", "ONBUILD is not allowed"),
        ("ONBUILD from a", "FROM is not allowed"), ("ONBUILD MAINTAINER a", "MAINTAINER is not"),
        ("ONBUILD FOO a", "unknown instruction FOO"), ("ONBUILD COPY a", "at least two arguments"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=r"^Dockerfile:2: ") as error:
        file = syntax.parse(f"# a comment\n{text}\n".encode())
        reading.read(file.statements[0], escape=file.escape)
    assert message in str(error.value), "and what was expected"
    assert text.partition("\n")[0][:90] in str(error.value) or "'" in text or "\\" in text, "and the text of the line"
    assert str(error.value).count("Dockerfile:") == 1, "once"


def test_what_an_image_keeps_is_read_again() -> None:
    kept = read("ONBUILD RUN --mount=target=/a cat <<A\n1\nA")
    assert isinstance(kept, OnBuild), "as text"
    again = reading.trigger(kept.instruction, "image: ONBUILD")
    assert isinstance(again, Run) and again.command.words == ("cat <<A\n1\nA",) and again.mounts[0].target == "/a", "here-documents and all"
    for text in ("FROM a", "RUN a\nRUN b", "ONBUILD RUN a", "", "what", "RUN \ud800", "RUN \udcff"):
        with pytest.raises(Invalid, match=r"^image: ONBUILD"):
            reading.trigger(text, "image: ONBUILD")
