from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from bayplan import documents
from bayplan.errors import BayplanError, Invalid, NotFound
from bayplan.model import yaml12
from bayplan.model.compose import parse_declaration


def project(path: Path, *texts: str, **files: str) -> list[str]:
    for name, text in files.items():
        target = path / name.replace("__", "/").replace("_dot_", ".")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    paths = []
    for index, text in enumerate(texts):
        (path / f"{index}.yaml").write_text(text)
        paths.append(str(path / f"{index}.yaml"))
    return paths


def read(paths: list[str], environment: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    return documents.read_project(paths, environment=environment or {}, project_name="app", **options)


def test_numbers_and_booleans_are_read_by_yaml_1_2() -> None:
    text = "a: no\nb: 22:22\nc: 0o17\nd: 0440\ne: true\nf: 2001-01-01\ng: 1_000\nh: ~\ni: 1.5\nj: '5'\nk: 0x1f\nl: .inf\nm: on\n"
    assert yaml12.load(text, "x") == {
        "a": "no", "b": "22:22", "c": 15, "d": 288, "e": True, "f": "2001-01-01", "g": "1_000", "h": None, "i": 1.5, "j": "5",
        "k": 31, "l": ".inf", "m": "on",
    }, "YAML 1.1's surprises are texts, modes are octal as Docker reads them"  # fmt: skip


def test_anchors_and_merge_keys_are_expanded() -> None:
    text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz:\n  <<: [*x, {c: 4}]\n"
    assert yaml12.load(text, "x") == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"c": 4, "a": 1, "b": 2}}, "own keys win"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is there twice"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("a: &a [*a]\n", "alias"),
        ("a: [1\n", "reading x"),
        ("? [a]\n: b\n", "a key is a text"),
        ("a: b\n---\nc: d\n", "reading x"),
        ("[" * 2000, "reading x"),
        ("\x00", "reading x"),
        ("<<: 5\n", "merges mappings"),
        ("a: *b\n", "reading x"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(Invalid) as caught:
        yaml12.load(text, "x")
    assert complaint in str(caught.value), "the message says what is wrong"


def test_a_billion_laughs_are_counted() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(Invalid, match="too large"):
        yaml12.load("\n".join(lines), "x")


def test_several_files_are_merged_by_the_specifications_rules(tmp_path: Path) -> None:
    base = """
services:
  web:
    image: nginx
    command: [a, b]
    environment: [A=1, B=2]
    ports: ["80:80"]
    volumes: [data:/d, /x:/x]
    depends_on: [db]
    labels: {k: v}
    cap_add: [A]
  db: {image: pg}
volumes: {data: }
"""
    over = """
services:
  web:
    command: [c]
    environment: {B: 3, C: 4}
    ports: ["81:81", "80:80"]
    volumes: [other:/d]
    depends_on: {db: {condition: service_healthy}}
    labels: !reset null
    cap_add: !override [B]
volumes: {other: }
"""
    web = read(project(tmp_path, base, over))["services"]["web"]
    assert web == {
        "image": "nginx", "command": ["c"], "environment": {"A": "1", "B": 3, "C": 4}, "ports": ["80:80", "81:81"],
        "volumes": ["other:/d", "/x:/x"], "depends_on": {"db": {"condition": "service_healthy"}}, "cap_add": ["B"],
    }, "lists append, keyed ones replace, tags reset and override"  # fmt: skip


def test_variables_come_from_the_environment_before_the_env_file(tmp_path: Path) -> None:
    paths = project(tmp_path, "services: {web: {image: '${IMAGE}:${TAG:-1}'}}", _dot_env="IMAGE=from_file\nTAG=2\n")
    assert read(paths)["services"]["web"]["image"] == "from_file:2", ".env is read"
    assert read(paths, {"IMAGE": "outer"})["services"]["web"]["image"] == "outer:2", "the environment wins"


def test_files_that_a_document_names_are_read_and_carried(tmp_path: Path) -> None:
    text = """
services:
  web:
    image: nginx
    env_file: [a.env, {path: missing.env, required: false}]
    environment: [B=own, PASSED, UNSET]
    secrets: [key, token]
    configs: [conf]
secrets: {key: {file: ./key}, token: {environment: TOKEN}}
configs: {conf: {content: "x ${V}"}}
"""
    paths = project(tmp_path, text, a_dot_env="A=1\nB=2\n", key="hush")
    found = read(paths, {"TOKEN": "t", "PASSED": "p", "V": "v"})
    assert found["services"]["web"]["environment"] == {"A": "1", "B": "own", "PASSED": "p"}, "own variables win, unset ones go"
    carried = found["x-bayplan"]["files"]
    assert base64.b64decode(carried["./key"]) == b"hush" and base64.b64decode(carried["environment:TOKEN"]) == b"t", "contents travel"
    files = {file.name: file for file in parse_declaration(found).containers[0].spec.files}
    assert set(files) == {"key", "token", "conf"} and "hush" not in repr(files), "the host can make them, and shows no secret"
    assert base64.b64decode(files["conf"].content) == b"x v", "inline contents are interpolated"
    assert documents.referenced_files({"services": {"a": {"env_file": "e"}}, "secrets": {"s": {"file": "f"}}}) == ("e", "f")


def test_extends_and_include_start_at_their_own_file(tmp_path: Path) -> None:
    main = """
include: [sub/inc.yaml]
services:
  web:
    extends: {service: base, file: sub/base.yaml}
    environment: {OWN: 1}
"""
    paths = project(
        tmp_path,
        main,
        sub__base_dot_yaml="services: {base: {image: nginx, env_file: base.env, volumes: ['./www:/www'], environment: {X: 1}}}",
        sub__base_dot_env="FROM=base\n",
        sub__inc_dot_yaml="services: {db: {image: pg, secrets: [s]}}\nsecrets: {s: {file: s.txt}}\n",
        sub__s_dot_txt="x",
    )
    found = read(paths, project_directory="/srv/app")
    web = found["services"]["web"]
    assert web["environment"] == {"FROM": "base", "X": 1, "OWN": 1} and "extends" not in web, "both services are one"
    specs = {each.spec.service: each.spec for each in parse_declaration(found).containers}
    assert specs["web"].mounts[0].source == "/srv/app/sub/www", "paths start at the extended file"
    assert list(found["x-bayplan"]["files"]) == ["./sub/s.txt"], "and at the included one"


@pytest.mark.parametrize(
    "text",
    [
        "include: ['https://example.org/compose.yaml']",
        "include: ['git@example.org:x']",
        "include: ['../outside.yaml']",
        "include: ['/etc/passwd']",
        "include: ['link.yaml']",
        "include: ['0.yaml']",
        "services: {a: {extends: {service: b, file: ../outside.yaml}}}",
        "services: {a: {extends: b}, b: {extends: a}}",
        "services: {a: {extends: nobody}}",
        "services: {a: {image: x, env_file: fifo}}",
        "services: {a: {image: x, env_file: missing}}",
        "services: {a: {image: '${X?needed}'}}",
        "secrets: {a: {file: /dev/zero}}",
        "- a",
        "",
    ],
)
def test_what_a_document_may_not_lead_to_is_refused(tmp_path: Path, text: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside.yaml").write_text("services: {b: {image: x}}")
    os.symlink("../outside.yaml", inner / "link.yaml")
    os.mkfifo(inner / "fifo")
    with pytest.raises(BayplanError):
        read(project(inner, text))


def test_an_include_may_not_change_what_is_declared(tmp_path: Path) -> None:
    paths = project(tmp_path, "include: [b.yaml]\nservices: {a: {image: x}}", b_dot_yaml="services: {a: {image: y}}")
    with pytest.raises(Invalid, match="declared in the including file"):
        read(paths)


def test_default_files_are_found_with_their_override_from_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("compose.yaml", "compose.override.yml"):
        (tmp_path / name).write_text("services: {}")
    assert [Path(path).name for path in documents.find_files(str(tmp_path / "sub"))] == ["compose.yaml", "compose.override.yml"]
    with pytest.raises(NotFound, match=r"compose\.yaml"):
        documents.find_files("/proc/self")


def test_the_project_is_named_by_argument_environment_document_or_directory(tmp_path: Path) -> None:
    directory = tmp_path / "My.App"
    directory.mkdir()
    (unnamed,) = project(directory, "services: {}")
    assert documents.read_project([unnamed], environment={})["name"] == "myapp", "the directory's name, made valid"
    assert documents.read_project([unnamed], environment={"COMPOSE_PROJECT_NAME": "env"})["name"] == "env", "then the environment"
    assert documents.read_project([unnamed], environment={}, project_name="arg")["name"] == "arg", "then the argument"


def test_a_definition_from_elsewhere_is_interpolated_and_marked(tmp_path: Path) -> None:
    definition = {"services": {"web": {"image": "x:${V}", "ports": [1342]}}}
    found = documents.read_definition(definition, project_name="app", environment={"V": "1"}, base=str(tmp_path), yaml11=True)
    assert found["services"]["web"]["image"] == "x:1", "variables are replaced"
    with pytest.raises(Invalid, match="quote it"):
        parse_declaration(found)
