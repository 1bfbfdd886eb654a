"""The modules and operations about images take what their requests understand, and carry from the controller what the host needs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bayplan import contexts, controller, dispatch
from bayplan.errors import Invalid, NotFound
from bayplan.model import image_requests, options
from bayplan.model.task import action_want

ansible = pytest.importorskip("ansible.module_utils.common.arg_spec")

PARSERS = {action.verb: getattr(image_requests, f"parse_{action.verb}") for action in options.ACTIONS.values()}
NEEDED = {
    "image_build": {"name": "app:1", "dockerfile_inline": "FROM scratch\n"},
    "image_copy": {"source": "store:app:1", "target": "docker://registry.example/app:1"},
    "image_load": {"remote_archive": "/srv/app.tar"},
    "image_prune": {},
    "image_push": {"name": "registry.example/app:1"},
    "image_save": {"names": ["app:1"], "path": "/srv/app.tar"},
    "image_tag": {"name": "app:1", "tags": ["app:2"]},
    "registry_login": {"username": "me", "password": "s3cret"},
}
SAMPLES: dict[str, Any] = {"platform": "linux/arm64", "until": "24h", "source_date_epoch": 1, "secrets": {"token": "s3cret"}}


def validated(module: str, **given: Any) -> dict[str, Any]:
    """What the action plugin makes of a task."""
    checked = ansible.ArgumentSpecValidator(options.argument_spec(options.module_options(module))).validate(given)
    assert not checked.error_messages, checked.error_messages
    return dict(checked.validated_parameters)


def sample(option: Any) -> Any:
    if option.name in SAMPLES:
        return SAMPLES[option.name]
    if option.choices:
        return option.choices[-1]
    usual = {"str": "text", "bool": True, "int": 5, "list": ["text"], "path": "/p", "dict": {"a": "b"}}
    return {"username": "me", "password": "word"} if option.name == "registry_auth" else usual[option.type]


EVERY = [(module, option) for module, action in options.ACTIONS.items() for option in action.options]


@pytest.mark.parametrize(("module", "option"), EVERY, ids=[f"{module}.{option.name}" for module, option in EVERY])
def test_every_option_is_understood_by_the_request_it_goes_into(module: str, option: Any) -> None:
    if option.name in ("context", "archive", "root"):
        return  # what the controller reads, and what every request has
    given = {**NEEDED[module], **({} if option.name in NEEDED[module] else {option.name: sample(option)})}
    wanted = PARSERS[options.ACTIONS[module].verb](action_want(validated(module, **given)))
    assert "s3cret" not in repr(wanted), "a secret is not shown"
    if option.name not in NEEDED[module] and sample(option) != option.default:
        plain = PARSERS[options.ACTIONS[module].verb](action_want(validated(module, **NEEDED[module])))
        assert wanted != plain, "an option that is given counts"


def test_every_verb_has_a_handler_and_every_module_an_operation() -> None:
    assert {action.verb for action in options.ACTIONS.values()} == set(dispatch.HANDLERS) - {"converge", "info"}
    for name, module in dispatch.HANDLERS.items():
        path, _, function = module.partition(":")
        assert callable(getattr(__import__(path, fromlist=[function]), function)), name
    operations = pytest.importorskip("bayplan_pyinfra.operations")
    assert all(callable(getattr(operations, module, None)) for module in options.ACTIONS), "pyinfra has them all"



WRONG = [
    ("build", {"name": "app:1"}),
    ("build", {"name": "app@sha256:" + "0" * 64, "dockerfile_inline": "FROM scratch"}),
    ("build", {"dockerfile_inline": "FROM scratch"}),
    ("build", {"name": "app", "dockerfile_inline": "", "colour": "red"}),
    ("tag", {"name": "app", "tags": ["app@sha256:" + "0" * 64]}),
    ("save", {"names": [], "path": "/x"}),
    ("save", {"names": ["app"], "path": "relative.tar"}),
    ("save", {"names": ["app"], "path": "/x", "format": "zip"}),
    ("load", {}),
    ("copy", {"source": "app", "target": "store:app"}),
    ("prune", {"until": "yesterday"}),
    ("login", {"username": "me"}),
    ("login", {"username": "m:e", "password": "p"}),
]


@pytest.mark.parametrize(("verb", "want"), WRONG, ids=lambda value: json.dumps(value) if isinstance(value, dict) else None)
def test_what_is_wrong_in_a_request_is_refused(verb: str, want: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        PARSERS[verb](want)


def test_no_error_shows_a_secret() -> None:
    for verb, want in (
        ("login", {"username": "me", "password": ["s3cret"]}),
        ("build", {"name": "a", "dockerfile_inline": "", "secrets": {"token": ["s3cret"]}}),
    ):
        with pytest.raises(Invalid) as error:
            PARSERS[verb](want)
        assert "s3cret" not in str(error.value)


# What is carried


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "app"
    for name in ("Dockerfile", "main.py", "build/out.o", "build/keep.txt", "node_modules/a/b.js", "src/x.c"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    (directory / "link").symlink_to("/etc/passwd")
    (directory / ".dockerignore").write_text("build\n!build/keep.txt\nnode_modules\nDockerfile\n.dockerignore\n")
    return directory


def packed(directory: Path, target: Path, **given: Any) -> dict[str, tarfile.TarInfo]:
    contexts.pack(str(directory), str(target), contexts.Dockerfile(**given))
    with tarfile.open(target) as archive:
        return {entry.name: entry for entry in archive.getmembers()}


def test_what_dockerignore_leaves_out_does_not_travel_but_what_the_host_reads_does(context: Path, tmp_path: Path) -> None:
    found = packed(context, tmp_path / "c.tar.gz")
    assert set(found) == {"Dockerfile", ".dockerignore", "build/keep.txt", "link", "main.py", "src", "src/x.c"}
    assert found["link"].issym() and {entry.uid for entry in found.values()} == {0}, "a link is carried as a link, and all is root's"
    (context / "Dockerfile.dockerignore").write_text("*\n!main.py\n")
    assert set(packed(context, tmp_path / "d.tar.gz")) == {"Dockerfile", "Dockerfile.dockerignore", ".dockerignore", "main.py"}
    (context / "node_modules" / "Dockerfile").write_text("FROM scratch")
    assert "node_modules/Dockerfile" in packed(context, tmp_path / "e.tar.gz", path="node_modules/Dockerfile"), "wherever it lies"


def test_a_context_that_is_too_large_says_what_to_do(context: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="dockerignore"):
        contexts.pack(str(context), str(tmp_path / "c.tar.gz"), contexts.Dockerfile(), largest=10)
    with pytest.raises(NotFound):
        contexts.pack(str(context / "nothing"), str(tmp_path / "c.tar.gz"), contexts.Dockerfile())


def test_a_dockerfile_outside_of_the_context_travels_in_the_request(context: Path, tmp_path: Path) -> None:
    (tmp_path / "other.Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "other.Dockerfile.dockerignore").write_text("src\n")
    given = validated("image_build", name="app", context="app", dockerfile="other.Dockerfile")
    want = controller.build_want(given, base=str(tmp_path), packed=str(tmp_path / "c.tar.gz"))
    assert (want["dockerfile_inline"], want["dockerignore"], want.get("dockerfile")) == ("FROM scratch\n", "src\n", None)
    with tarfile.open(tmp_path / "c.tar.gz") as archive:
        assert "src/x.c" not in archive.getnames() and "Dockerfile" in archive.getnames()
    inside = controller.build_want({**given, "dockerfile": "Dockerfile"}, base=str(tmp_path), packed=str(tmp_path / "c.tar.gz"))
    assert inside["dockerfile"] == "Dockerfile" and "dockerfile_inline" not in inside
    with pytest.raises(NotFound):
        controller.build_want({**given, "dockerfile": "nowhere"}, base=str(tmp_path), packed=str(tmp_path / "c.tar.gz"))
    with pytest.raises(Invalid):
        controller.build_want({**given, "remote_context": "/srv"}, base=str(tmp_path), packed=str(tmp_path / "c.tar.gz"))
