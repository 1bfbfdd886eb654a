"""`bayplan build`, as people use it: what it makes, what it says, what it keeps, and what a Dockerfile cannot do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="building takes root, for namespaces and mounts")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made
        assert not [name for name in os.listdir(made.root / "tmp") if name.startswith(("build-", "address-"))], "no step's files are left"


class Context:
    """A directory with a Dockerfile."""

    def __init__(self, host: Lab) -> None:
        self.host, self.path = host, host.directory / "context"
        self.path.mkdir(exist_ok=True)

    def write(self, dockerfile: str, **files: str) -> None:
        (self.path / "Dockerfile").write_text(dockerfile)
        for name, content in files.items():
            (self.path / name).write_text(content)

    def build(self, *options: str, **environment: str) -> str:
        """The image's id."""
        return self.host.ok("build", "-q", *options, str(self.path), **environment).strip()

    def said(self, *options: str) -> str:
        done = self.host.run("build", *options, str(self.path))
        assert done.returncode == 0, done.stderr
        return done.stderr

    def error(self, *options: str) -> str:
        done = self.host.run("build", *options, str(self.path))
        assert done.returncode == 1 and "Traceback" not in done.stderr and "bug" not in done.stderr, done.stderr
        return done.stderr

    def prints(self, *words: str, image: str = "made") -> str:
        return self.host.ok("run", "--rm", "--network", "none", image, *words)


@pytest.fixture
def context(host: Lab) -> Context:
    return Context(host)


def test_an_image_is_built_and_runs(context: Context) -> None:
    context.write(
        f"""FROM {IMAGE}
ARG WHO=world
ENV GREETING="hello $WHO"
WORKDIR /srv
COPY page ./
RUN echo "$GREETING" >> page && touch only
LABEL by=me
EXPOSE 8080
USER 1000
CMD ["cat", "page"]
""",
        page="first\n",
    )
    said = context.said("-t", "made", "--label", "more=1")
    assert "[2/9]" in said and "built" in said.splitlines()[-1] and "as made" in said, said
    assert context.prints() == "first\nhello world\n"
    document = json.loads(context.host.ok("image", "inspect", "made"))[0]
    assert document["Config"]["WorkingDir"] == "/srv" and document["Config"]["User"] == "1000"
    assert document["Config"]["Labels"] == {"by": "me", "more": "1"} and "8080/tcp" in document["Config"]["ExposedPorts"]
    assert len(document["RootFS"]["Layers"]) == 4, "the base's, the directory, the file, the command's: nothing for what touches no file"


def test_a_second_build_takes_every_step_from_the_cache_and_is_the_same_image(context: Context) -> None:
    context.write(f"FROM {IMAGE}\nCOPY a /a\nRUN date +%N > /when\nENV X=1\n", a="1")
    first = context.build()
    os.utime(context.path / "a", (1, 1))
    assert context.build() == first, "a time is no content"
    assert "(cached)" in context.said()
    context.write(f"FROM {IMAGE}\nCOPY a /a\nRUN date +%N > /when\nENV X=2\n", a="1")
    second = context.build("-t", "made")
    layers = [json.loads(context.host.ok("image", "inspect", each))[0]["RootFS"]["Layers"] for each in (first, "made")]
    assert second != first and layers[0] == layers[1], "what comes before the change is there already"
    assert context.build("--no-cache") != second
    (context.path / "a").write_text("2")
    assert context.build() != second


def test_arguments_of_the_command_line_decide_and_make_another_cache(context: Context) -> None:
    context.write(f"ARG BASE={IMAGE}\nFROM $BASE\nARG V=1\nARG UNSET\nRUN echo $V-${{UNSET-none}} > /v\nCMD cat /v\n")
    context.build("-t", "made")
    assert context.prints() == "1-none\n"
    context.build("-t", "made", "--build-arg", "V=2", "--build-arg", "UNSET")
    assert context.prints() == "2-none\n", "without = it is the environment's, which has none"
    context.build("-t", "made", "--build-arg", "UNSET", UNSET="seen")
    assert context.prints() == "1-seen\n"


def test_stages_that_need_nothing_of_each_other_are_built_at_once_and_unused_ones_not_at_all(context: Context) -> None:
    wait = "for i in $(seq 100); do test -e /meet/{other} && exit 0; sleep 0.1; done; exit 1"
    cache = "--mount=type=cache,target=/meet"
    steps = [f"RUN {cache} touch /meet/{mine}; " + wait.format(other=other) for mine, other in (("a", "b"), ("b", "a"))]
    context.write(
        f"FROM {IMAGE} AS one\n{steps[0]}\nRUN echo 1 > /one\nFROM {IMAGE} AS two\n{steps[1]}\nRUN echo 2 > /two\n"
        f"FROM {IMAGE} AS never\nRUN exit 7\nFROM {IMAGE}\nCOPY --from=one /one /\nCOPY --from=two /two /\nCMD cat /one /two\n"
    )
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor: one stage at a time")
    context.build("-t", "made")
    assert context.prints() == "1\n2\n", "each waited for the other, in a cache that both have"
    context.build("-t", "made", "--target", "one")
    assert context.prints("cat", "/one") == "1\n"
    assert "stage" in context.error("--target", "nowhere")


def test_a_failing_step_shows_its_line_and_what_it_said_and_nothing_is_named(context: Context) -> None:
    context.write(f"FROM {IMAGE}\nRUN true\nRUN echo working; \\\n  echo broken >&2; exit 3\n")
    said = context.error("-t", "made")
    last = said.splitlines()[-3:]
    assert "Dockerfile:3" in last[0] and "exit status 3" in last[0], said
    assert [line.strip() for line in last[1:]] == ["| working", "| broken"], said
    assert context.host.run("image", "inspect", "made").returncode == 1
    context.write(f"FROM {IMAGE}\nCOPY nowhere /\n")
    assert "Dockerfile:2" in context.error() and "nowhere" in context.error()
    context.write(f"FROM {IMAGE}\nRUN /no/such/program\n")
    assert "exit status 127" in context.error()
    context.write(f'FROM {IMAGE}\nRUN ["/no/such/program"]\n')
    assert "no such file in the container" in context.error()
    context.write(f"FROM {IMAGE}\nRUNN true\n")
    assert "Dockerfile:2" in context.error() and "RUN" in context.error()


def test_secrets_and_caches_are_seen_by_their_step_and_are_in_no_layer(context: Context) -> None:
    secret = context.host.directory / "token"
    secret.write_text("s3cr3t")
    secrets = "--mount=type=secret,id=token --mount=type=secret,id=env,env=FROM_ENV"
    mounts = f"{secrets} --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/t"
    context.write(
        f"FROM {IMAGE}\nRUN {mounts} cat /run/secrets/token > /dev/null && ls -l /run/secrets/token && echo ${{#FROM_ENV}} > /size"
        " && echo kept >> /var/cache/x/f && touch /t/gone\nRUN ls /run /var /t 2>&1 | cat > /left; cat /left\nCMD cat /size /left\n"
    )
    context.build("-t", "made", "--secret", f"id=token,src={secret}", "--secret", "id=env,env=MORE", MORE="12345")
    assert context.prints().startswith("5\n")
    assert "No such file" in context.prints("sh", "-c", "ls /run/secrets /var/cache /t 2>&1; true"), "not even the places are left"
    for path in context.host.root.rglob("*"):
        if path.is_file() and "db.sqlite" not in path.name:
            assert b"s3cr3t" not in path.read_bytes(), f"{path} has the secret"
    context.write(f"FROM {IMAGE}\nRUN {mounts} cat /var/cache/x/f > /f\nCMD cat /f\n")
    context.build("-t", "made")
    assert context.prints() == "kept\n", "a cache is there for the next build"
    context.write(f"FROM {IMAGE}\nRUN --mount=type=secret,id=absent,required=true true\n")
    assert "no secret absent is given" in context.error()


def test_binds_show_the_context_and_other_stages_and_take_no_change_back(context: Context) -> None:
    context.write(
        f"FROM {IMAGE} AS tools\nRUN echo tool > /tool\nFROM {IMAGE}\n"
        "RUN --mount=type=bind,target=/context --mount=type=bind,from=tools,source=/tool,target=/mnt/tool"
        " cat /context/in /mnt/tool > /out\n"
        "RUN --mount=type=bind,target=/context (echo no > /context/in) 2>&1 | cat > /refused\nCMD cat /out\n",
        **{"in": "from outside\n"},
    )
    context.build("-t", "made")
    assert context.prints() == "from outside\ntool\n"
    assert (context.path / "in").read_text() == "from outside\n" and "Read-only" in context.prints("cat", "/refused")


def test_a_context_of_links_leads_nowhere_outside(context: Context) -> None:
    outside = context.host.directory / "outside"
    outside.mkdir()
    (outside / "key").write_text("private")
    context.write(f"FROM {IMAGE}\nCOPY link /got\n")
    (context.path / "link").symlink_to(outside / "key")
    assert "there is no such file" in context.error(), "an absolute link is one beneath the context"
    context.write(f"FROM {IMAGE}\nCOPY up /got\n")
    (context.path / "up").symlink_to("../outside/key")
    assert "there is no such file" in context.error()
    context.write(f"FROM {IMAGE}\nRUN --mount=type=bind,source=up,target=/k cat /k\n")
    assert "private" not in context.error()
    context.write(f"FROM {IMAGE}\nCOPY . /all\nCMD cat /all/up\n")
    context.build("-t", "made")
    assert context.host.run("run", "--rm", "--network", "none", "made").returncode == 1, "what lies deeper is copied as the link that it is"


def test_a_destination_through_links_of_the_image_stays_inside(context: Context) -> None:
    target = context.host.directory / "target"
    target.mkdir()
    links = f"RUN ln -s {target} /way && ln -s ../../../../../..{target} /up"
    context.write(f"FROM {IMAGE}\n{links}\nCOPY f /way/\nCOPY f /up/g\nCMD cat /up/f\n", f="here")
    context.build("-t", "made")
    assert not list(target.iterdir()) and context.prints() == "here"


def test_a_build_has_a_network_of_its_own_unless_told_otherwise(context: Context) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        look = f"(busybox nc -w 1 127.0.0.1 {port} < /dev/null && echo reached || echo refused) > /out; ls /sys/class/net > /links"
        for option, links in (("", {"lo", "eth0"}), ("--network=none ", {"lo"})):
            context.write(f"FROM {IMAGE}\nRUN {option}{look}\n")
            context.build("-t", "made", "--no-cache")
            assert context.prints("cat", "/out") == "refused\n" and set(context.prints("cat", "/links").split()) == links


def test_what_a_build_runs_is_confined_as_a_container_is(context: Context) -> None:
    context.write(f"FROM {IMAGE}\nRUN (mkdir /m && mount -t tmpfs m /m) 2>&1; grep -E 'Seccomp:|CapEff' /proc/self/status > /s; true\n")
    context.build("-t", "made")
    status = dict(line.split() for line in context.prints("cat", "/s").splitlines())
    assert status == {"CapEff:": "00000000a80425fb", "Seccomp:": "2"}, "Docker's fourteen capabilities, and the filter"


def test_the_same_bytes_under_source_date_epoch_on_two_states(context: Context, tmp_path: Path) -> None:
    context.write(f"FROM {IMAGE}\nWORKDIR /w\nCOPY . .\nRUN echo x > f; mkdir d; touch d/e; ln -s f l\nENV A=1\n", a="1")
    archive = tmp_path / "base.tar"
    context.host.ok("save", "-o", str(archive), IMAGE)
    first = context.build(SOURCE_DATE_EPOCH="1600000000")
    (tmp_path / "other").mkdir()
    with lab(tmp_path / "other") as other:
        other.ok("rmi", "-f", IMAGE)
        other.ok("load", "-i", str(archive))
        time.sleep(1.1)
        second = other.ok("build", "-q", str(context.path), SOURCE_DATE_EPOCH="1600000000").strip()
    assert first == second


def test_a_build_that_is_killed_leaves_nothing_that_runs_and_the_next_one_works(context: Context) -> None:
    context.write(f"FROM {IMAGE}\nRUN echo 1 > /one\nRUN sleep 1234\n")
    with subprocess.Popen(context.host.command("build", str(context.path)), stderr=subprocess.PIPE) as running:
        assert running.stderr
        for line in running.stderr:
            if b"sleep" in line:
                break
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        running.wait(20)
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "-f", "^sleep 1234"], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the command has ended with the build"
        time.sleep(0.1)
    context.write(f"FROM {IMAGE}\nRUN echo 1 > /one\n")
    assert "(cached)" in context.said("-t", "made"), "the steps before are kept"
