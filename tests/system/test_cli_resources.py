"""Images, networks, volumes, prune, plan and apply by the command line, for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

COMPOSE = """\
name: shop
services:
  web:
    image: box:1
    command: [sleep, "1000"]
    stop_grace_period: 0s
    environment: {A: "1"}
    networks: [front]
    volumes: [data:/data]
  db:
    image: box:1
    command: [sleep, "1000"]
    stop_grace_period: 0s
networks: {front: {}}
volumes: {data: {}}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("cli")) as found:
        yield found


def test_images_have_docker_columns_names_and_filters(host: Lab) -> None:
    host.ok("tag", IMAGE, "registry.example/shop/box:2")
    heading, *lines = host.ok("images").splitlines()
    assert re.split(r"\s{3,}", heading) == ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    assert sorted(line.split()[0:2] for line in lines) == [["box", "1"], ["registry.example/shop/box", "2"]]
    assert host.ok("images", "-q", "registry.example/*/box").count("\n") == 1
    assert host.ok("images", "--filter", "dangling=true", "-q") == "" and host.ok("images", "--filter", "label=x", "-q") == ""
    identity = host.ok("images", "-q", "--no-trunc", "box").strip()
    assert re.fullmatch("sha256:[0-9a-f]{64}", identity)
    assert host.ok("inspect", "--format", "{{.Id}}", identity[7:19]) == identity + "\n"
    assert host.ok("image", "inspect", "--format", "{{json .Config.Cmd}}", IMAGE) == '["sh"]\n'
    assert host.ok("rmi", "registry.example/shop/box:2") == "Untagged: registry.example/shop/box:2\n"
    assert host.run("rmi", "nobody:1").returncode == 1


def test_what_is_saved_is_what_is_loaded(host: Lab, tmp_path: Path) -> None:
    identity = host.ok("images", "-q", "--no-trunc", IMAGE)
    archive = tmp_path / "box.tar"
    host.ok("save", "-o", str(archive), IMAGE)
    assert (archive.stat().st_mode & 0o777, sorted(os.listdir(tmp_path))) == (0o600, ["box.tar"])
    host.ok("rmi", IMAGE)
    assert host.ok("load", "-i", str(archive)) == f"Loaded image: {IMAGE}\n"
    assert host.ok("images", "-q", "--no-trunc", IMAGE) == identity, "the same image, by its content"
    piped = subprocess.run(host.command("save", "--format", "oci-archive", IMAGE), capture_output=True, timeout=60, check=True)
    assert host.ok("load", stdin=piped.stdout) == f"Loaded image: {IMAGE}\n"
    assert host.run("load", stdin=b"this is no archive" * 100).returncode == 1
    assert host.run("load", "-i", str(tmp_path / "none")).returncode == 1
    assert host.run("save", "-o", str(tmp_path / "x.tar"), "nobody:1").returncode == 1 and not (tmp_path / "x.tar").exists()


def test_an_image_in_use_is_not_removed(host: Lab) -> None:
    host.ok("create", "--name", "user", IMAGE)
    done = host.run("rmi", IMAGE)
    assert done.returncode == 1 and "user" in done.stderr, "the message names who uses it"
    host.ok("rm", "user")


def test_networks_are_made_listed_joined_and_removed(host: Lab) -> None:
    host.ok("network", "create", "--label", "a=1", "--subnet", "10.231.7.0/24", "--gateway", "10.231.7.254", "--internal", "inner")
    assert "inner" in host.ok("network", "ls", "--filter", "label=a=1", "--format", "{{.Name}}").split()
    shown = json.loads(host.ok("network", "inspect", "inner"))[0]
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.231.7.0/24", "Gateway": "10.231.7.254"}] and shown["Internal"] is True
    host.ok("run", "-d", "--name", "one", "--network", "inner", "--ip", "10.231.7.9", "--network-alias", "uno", IMAGE, "sleep", "100")
    assert host.ok("inspect", "--format", "{{.NetworkSettings.Networks.inner.IPAddress}}", "one") == "10.231.7.9\n"
    assert host.run("network", "rm", "inner").returncode == 1, "a network in use stays"
    host.ok("network", "create", "outer")
    host.ok("network", "connect", "--alias", "out", "outer", "one")
    assert host.ok("ps", "--format", "{{.Networks}}", "--filter", "network=outer").split(",")[-1].strip() in ("inner", "outer")
    host.ok("network", "disconnect", "outer", "one")
    assert host.ok("ps", "-q", "--filter", "network=outer") == ""
    host.ok("rm", "-f", "one")
    assert host.ok("network", "rm", "inner", "outer") == "inner\nouter\n"
    for words in (["../x"], ["--subnet", "10.0.0.0/33", "bad"], ["--driver", "magic", "bad"], ["host"]):
        assert host.run("network", "create", *words).returncode == 1, words


def test_volumes_are_made_listed_used_and_removed(host: Lab) -> None:
    assert host.ok("volume", "create", "--label", "a=1", "data") == "data\n"
    anonymous = host.ok("volume", "create").strip()
    assert re.fullmatch("[0-9a-f]{64}", anonymous)
    assert host.ok("volume", "ls", "-q", "--filter", "label=a=1") == "data\n"
    host.ok("run", "--rm", "-v", "data:/d", IMAGE, "sh", "-c", "echo kept > /d/file")
    assert host.ok("run", "--rm", "-v", "data:/d:ro", IMAGE, "cat", "/d/file") == "kept\n"
    host.ok("create", "--name", "user", "-v", "data:/d", IMAGE)
    assert host.ok("volume", "ls", "-q", "--filter", "dangling=true") == anonymous + "\n"
    assert host.run("volume", "rm", "data").returncode == 1, "a volume in use stays"
    host.ok("rm", "-v", "user")
    assert "data" in host.ok("volume", "ls", "-q").split(), "a volume with a name is never removed implicitly"
    assert host.ok("volume", "rm", "data", anonymous) == f"data\n{anonymous}\n"
    assert host.run("volume", "rm", "data").returncode == 1 and host.ok("volume", "rm", "-f", "data") == "data\n"
    assert host.run("volume", "create", "../x").returncode == 1


def test_prune_asks_and_removes_only_what_nothing_uses(host: Lab) -> None:
    host.ok("create", "--name", "idle", "-l", "keep=1", "-v", "/anonymous", IMAGE)
    host.ok("run", "-d", "--name", "busy", IMAGE, "sleep", "100")
    host.ok("network", "create", "unused")
    assert host.run("prune").returncode == 1, "nobody is there to be asked"
    assert "idle" in host.ok("ps", "-a", "--format", "{{.Names}}")
    assert "Total reclaimed space" in host.ok("container", "prune", "-f", "--filter", "label=other")
    assert "idle" in host.ok("ps", "-a", "--format", "{{.Names}}")
    shown = host.ok("system", "prune", "-f", "--volumes")
    assert "unused" in shown and host.ok("ps", "-a", "--format", "{{.Names}}") == "busy\n"
    assert "unused" not in host.ok("network", "ls", "--format", "{{.Name}}") and IMAGE.split(":")[0] in host.ok("images")
    host.ok("rm", "-f", "busy")


def test_inspect_finds_every_kind_and_says_what_is_not_there(host: Lab) -> None:
    host.ok("volume", "create", "thing")
    done = host.run("inspect", "thing", "nobody", IMAGE)
    assert done.returncode == 1 and "nobody" in done.stderr
    assert [each.get("Mountpoint") is not None for each in json.loads(done.stdout)] == [True, False]
    assert host.run("inspect", "--type", "container", "thing").returncode == 1
    host.ok("volume", "rm", "thing")


def test_plan_shows_what_apply_does_and_then_there_is_nothing_to_do(host: Lab, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(COMPOSE)
    planned = host.ok("plan", str(file))
    assert host.ids() == [], "a plan changes nothing"
    assert {"+ container shop-web-1  create", "+ network shop_front  create"} <= {line.split("  (")[0] for line in planned.splitlines()}
    assert host.run("plan", "--detailed-exitcode", str(file)).returncode == 2
    assert host.ok("apply", str(file)) == planned, "what was planned is what is done"
    assert sorted(host.ok("ps", "--format", "{{.Names}}").split()) == ["shop-db-1", "shop-web-1"]
    assert host.ok("plan", "--detailed-exitcode", str(file)) == "nothing to do\n" == host.ok("apply", str(file))
    file.write_text(COMPOSE.replace('A: "1"', 'A: "2"'))
    changed = host.ok("plan", str(file))
    assert "~ container shop-web-1" in changed and "shop-db-1" not in changed, "the others keep theirs"
    document = json.loads(host.ok("plan", "--format", "json", str(file)))
    assert document["changed"] is True and document["steps"][0]["name"] == "shop-web-1"
    file.write_text("services: {web: {image: box:1, colour: red}}")
    done = host.run("plan", str(file))
    assert done.returncode == 1 and "colour" in done.stderr and done.stderr.count("\n") == 1
    file.write_text(COMPOSE)
    assert "- container shop-web-1" in host.ok("apply", "--absent", str(file))
    assert host.ids() == [] and host.ok("volume", "ls", "-q") == "shop_data\n", "a project's volumes stay"
    host.ok("apply", "--absent", "--volumes", str(file))
    assert host.ok("volume", "ls", "-q") == ""


def test_the_file_is_found_where_we_are(host: Lab, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("name: here\nservices: {one: {image: box:1}}\n")
    done = subprocess.run(host.command("plan"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "here-one-1" in done.stdout, done
    nothing = subprocess.run(host.command("plan"), cwd="/", capture_output=True, text=True)
    assert nothing.returncode == 1 and "compose.yaml" in nothing.stderr


def test_info_counts_and_version_tells(host: Lab) -> None:
    document = json.loads(host.ok("info", "--format", "json"))
    assert document["Root"] == str(host.root) and document["Images"] == 1 and document["Containers"] == 0
    assert host.ok("info", "--format", "{{.Images}}") == "1\n"
    assert set(json.loads(host.ok("version", "--format", "json"))) >= {"Version", "Python", "Interpreter"}


def test_the_root_is_taken_from_the_environment(host: Lab) -> None:
    words = [*host.command()[:4], "images", "-q"]
    done = subprocess.run(words, env={**os.environ, "BAYPLAN_ROOT": str(host.root)}, capture_output=True, text=True)
    assert len(done.stdout.split()) == 1 and not done.stderr
