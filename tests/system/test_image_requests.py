"""What modules and operations ask of a host about images: a check foretells the run and leaves nothing, and the second run does nothing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import IMAGE, Lab, lab
from registry_lab import RUNTIME, registry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the dispatcher refuses others")

CODE = """\
import json, sys
sys.path.insert(0, sys.argv[1])
from bayplan.task import run_task
print(json.dumps(run_task(json.load(sys.stdin))))
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as name:
        yield name


def ask(root: Path, verb: str, *, check: bool = False, **want: Any) -> dict[str, Any]:
    request = json.dumps({"verb": verb, "want": want, "check": check, "diff": True, "root": str(root)})
    command = [sys.executable, "-I", "-S", "-c", CODE, RUNTIME]
    environment = {**os.environ, "HOME": str(root.parent)}
    done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def done(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    assert not answer.get("failed"), answer["msg"]
    return [(step["action"], step["kind"], step["name"]) for step in answer["steps"]]


def files(root: Path) -> set[str]:
    """All that is there but what a reader of the records leaves beside them."""
    return {str(path) for path in root.rglob("*") if not path.name.startswith("db.sqlite") and path.name != "content.lock"}


def settle(root: Path, verb: str, **want: Any) -> dict[str, Any]:
    """Check, run, run and check; the first run's answer."""
    before = files(root)
    told = done(ask(root, verb, check=True, **want))
    assert files(root) == before, "a check makes nothing"
    first = ask(root, verb, **want)
    assert told == done(first) != [], "the check said what the run does"
    for check in (False, True):
        assert done(ask(root, verb, check=check, **want)) == [], "the second time there is nothing to do"
    return first


DOCKERFILE = f"FROM {IMAGE}\nARG WORD=one\nRUN echo $WORD > /word\nLABEL made=so\n"


def test_an_image_is_built_where_its_name_has_another(host: Lab) -> None:
    first = settle(host.root, "build", name="app:1", tags=["app:latest"], dockerfile_inline=DOCKERFILE)
    assert done(first) == [("build", "image", "app:1"), ("build", "image", "app:latest")]
    assert first["result"]["Config"]["Labels"] == {"made": "so"} and set(first["diff"]["after"]) == {"image app:1", "image app:latest"}
    assert done(ask(host.root, "build", name="app:2", dockerfile_inline=DOCKERFILE, check=True)) == [("build", "image", "app:2")], (
        "all is cached, but the name is not there"
    )
    other = ask(host.root, "build", name="app:1", dockerfile_inline=DOCKERFILE, args={"WORD": "two"}, check=True)
    assert "RUN echo $WORD > /word is not in the cache" in other["steps"][0]["why"][0], "the first step that would be made is named"
    assert done(ask(host.root, "build", name="app:1", dockerfile_inline=DOCKERFILE, nocache=True, check=True)), "nocache makes it anew"


def test_stages_a_context_and_secrets_are_foretold(host: Lab) -> None:
    context = host.directory / "context"
    context.mkdir()
    (context / "a").write_text("a")
    (context / "b").write_text("b")
    (context / ".dockerignore").write_text("b\n")
    (context / "Dockerfile").write_text(
        f"FROM {IMAGE} AS one\nCOPY . /in/\nRUN --mount=type=secret,id=token touch /in/$(cat /run/secrets/token | head -c 3)\n"
        f"FROM {IMAGE}\nCOPY --from=one /in /out\n"
    )
    want = {"name": "app:1", "remote_context": str(context), "secrets": {"token": "abc-s3cret"}}
    first = settle(host.root, "build", **want)
    assert "s3cret" not in json.dumps(first), "a secret is in no result"
    assert host.ok("run", "--rm", "--network", "none", "app:1", "ls", "/out").split() == ["Dockerfile", "a", "abc"]
    packed = host.directory / "context.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        for path in sorted(context.iterdir()):
            archive.add(path, path.name)
    assert done(ask(host.root, "build", **{**want, "remote_context": str(packed)})) == [], "an archive of the same is the same"
    (context / "b").write_text("another")
    assert done(ask(host.root, "build", **want)) == [], "what is ignored changes nothing"
    (context / "a").write_text("another")
    assert done(ask(host.root, "build", check=True, **want)), "what is copied does"


def test_a_check_of_a_build_on_an_empty_host_makes_no_state(tmp_path: Path) -> None:
    told = ask(tmp_path / "state", "build", name="app:1", dockerfile_inline="FROM scratch\nLABEL a=b\n", check=True)
    assert done(told) == [("build", "image", "app:1")]
    missing = ask(tmp_path / "state", "build", name="app:1", dockerfile_inline="FROM nowhere.invalid/x\n", check=True)
    assert "not on the host" in missing["steps"][0]["why"][0], "no registry is asked"
    wrong = ask(tmp_path / "state", "build", name="app:1", dockerfile_inline="FORM scratch\n", check=True)
    assert wrong["failed"] and "FORM" in wrong["msg"], "what is wrong in a Dockerfile a check says, too"
    assert not (tmp_path / "state").exists(), "a check makes nothing"


def test_images_are_tagged_pushed_saved_loaded_and_copied_once(host: Lab, server: str, tmp_path: Path) -> None:
    settle(host.root, "build", name="app:1", dockerfile_inline=DOCKERFILE)
    name = f"{server}/team/app:1"
    assert done(settle(host.root, "tag", name="app:1", tags=[name])) == [("tag", "image", name)]
    pushed = settle(host.root, "push", name=name)
    assert pushed["result"][0]["Digest"].startswith("sha256:") and pushed["diff"]["before"][f"image {name}"] == {"Digest": ""}
    for format in ("docker-archive", "oci-archive"):
        want = {"names": ["app:1", IMAGE], "path": f"{tmp_path}/app.tar", "format": format}
        assert done(settle(host.root, "save", **want)) == [("save", "archive", want["path"])]
    other = tmp_path / "other"
    first = settle(other, "load", remote_archive=f"{tmp_path}/app.tar")
    assert done(first) == [("load", "image", "app:1"), ("load", "image", IMAGE)] and len(first["result"]) == 2
    assert done(ask(other, "build", name="app:1", dockerfile_inline=DOCKERFILE, check=True)), "the cache is not in an archive"
    for source, target in (
        (f"docker://{name}", f"oci:{tmp_path}/layout:1"),
        (f"docker://{name}", f"docker://{server}/team/copied:1"),
        (f"docker://{name}", "store:copied:1"),
        ("store:copied:1", f"oci-archive:{tmp_path}/copied.tar"),
        (f"oci:{tmp_path}/layout:1", f"docker-archive:{tmp_path}/copied-docker.tar:copied:1"),
    ):
        assert done(settle(other, "copy", source=source, target=target)) == [("copy", "image", target)]
    ask(other, "prune", all=True)


def test_a_check_foretells_what_needs_an_image_that_is_yet_to_be_made(tmp_path: Path, server: str) -> None:
    root, name = tmp_path / "state", f"{server}/team/later:1"
    for verb, step, want in (
        ("tag", ("tag", "image", "later:2"), {"name": name, "tags": ["later:2"]}),
        ("push", ("push", "image", name), {"name": name}),
        ("save", ("save", "archive", "/srv/later.tar"), {"names": [name], "path": "/srv/later.tar"}),
        ("copy", ("copy", "image", "oci:/srv/later:1"), {"source": f"docker://{name}", "target": "oci:/srv/later:1"}),
        ("copy", ("copy", "image", "oci:/srv/later:1"), {"source": "store:later:2", "target": "oci:/srv/later:1"}),
    ):
        told = ask(root, verb, check=True, **want)
        assert done(told) == [step] and "before this one" in told["warnings"][0]
        assert ask(root, verb, **want)["error"] == "not_found", "a run says that it is not there"
    assert not root.exists()


def test_a_check_of_a_push_says_that_another_has_pushed_the_same(host: Lab, server: str, tmp_path: Path) -> None:
    """An image that was made here has no manifest yet, and the registry's names its config."""
    name = f"{server}/team/same:1"
    settle(host.root, "build", name=name, dockerfile_inline=DOCKERFILE)
    host.ok("copy", "-q", f"store:{name}", f"oci-archive:{tmp_path}/same.tar")
    assert done(ask(host.root, "push", name=name)) == [("push", "image", name)]
    ask(host.root, "tag", name=IMAGE, tags=[name])
    assert done(ask(host.root, "push", name=name, check=True)) == [("push", "image", name)], "another image of the name is to be sent"


def test_unused_images_and_steps_go_and_are_named_before(host: Lab) -> None:
    settle(host.root, "build", name="app:1", dockerfile_inline=DOCKERFILE)
    host.ok("tag", IMAGE, "app:1")
    first = settle(host.root, "prune", build_cache=True)
    assert [step[1] for step in done(first)] == ["image", *["build cache"] * 3], "the image, and the steps that it had"
    assert done(ask(host.root, "prune", all=True, until="24h", check=True)) == [], "what is young stays"
    assert done(ask(host.root, "prune", all=True, labels=["none=such"], check=True)) == [], "and what has no such label"
    assert len(done(settle(host.root, "prune", all=True))) == 1, "with all, named ones go, too"


def test_a_host_is_logged_in_and_out_once_and_no_password_is_seen(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    accounts = tmp_path / "accounts"
    subprocess.run(["htpasswd", "-Bbc", str(accounts), "somebody", "secret-of-1"], check=True, capture_output=True)
    auth = f"auth:\n  htpasswd: {{realm: test, path: {accounts}}}\n"
    root = tmp_path / "state"
    with registry(tmp_path / "registry", auth=auth) as server:
        want = {"registry": server, "username": "somebody", "password": "secret-of-1", "auth_file": f"{tmp_path}/auth.json"}
        wrong = ask(root, "login", **{**want, "password": "another"})
        assert wrong["failed"] and "another" not in wrong["msg"] and not os.path.exists(want["auth_file"]), "it is tried before it is kept"
        first = settle(root, "login", **want)
        assert done(first) == [("login", "registry", server)] and want["password"] not in json.dumps(first)
        kept = json.loads((tmp_path / "auth.json").read_text())["auths"][server]["auth"]
        assert base64.b64decode(kept).decode() == "somebody:secret-of-1"
        assert done(settle(root, "login", registry=server, state="absent", auth_file=want["auth_file"])) == [("logout", "registry", server)]
