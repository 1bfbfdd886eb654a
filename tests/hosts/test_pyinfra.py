"""A deploy of pyinfra over SSH: the same requests, truly told changes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import images
from conftest import PATIENCE, Lab
from disposable import Host

DEPLOY = """
from bayplan_pyinfra import facts, operations as bayplan
from pyinfra import host

registry = {registry!r}
bayplan.image(name="an image", image=registry + "/web:2")
bayplan.image(name="an archive", image="example/py:1", archive={archive!r})
bayplan.network(name="a network", network="pynet", subnet="10.66.0.0/24")
bayplan.volume(name="a volume", volume="pyvol", labels={{"team": "shop"}})
bayplan.container(
    name="a container", container="pyweb", image=registry + "/web:1", ports=["8099:80"], networks=["pynet"], volumes=["pyvol:/data"],
    secrets=[{{"source": {secret!r}, "target": "token"}}],
)
bayplan.stack(name="a stack", project_name="pystack", definition={{"services": {{"one": {{"image": registry + "/web:1"}}}}}})
"""
IMAGES = """
from bayplan_pyinfra import operations as bayplan

registry = {registry!r}
app = registry + "/pyapp:1"
bayplan.registry_login(name="a login", registry=registry, username="somebody", password="kept-but-n0t-shown")
bayplan.image(name="a base", image=registry + "/busybox:1")
base = {{"BASE": registry + "/busybox:1"}}
bayplan.image_build(name="an image", image=app, context={context!r}, args=base, secrets={{"token": "bu1lt-with"}})
bayplan.image_tag(name="a name", image=app, tags=["local/pyapp:2"])
bayplan.image_push(name="a push", image=app)
bayplan.image_copy(name="a copy", source="docker://" + app, target="oci:/srv/pyapp:1")
bayplan.image_save(name="an archive", images=["local/pyapp:2"], path="/srv/pyapp.tar")
bayplan.image_load(name="another archive", archive={archive!r})
bayplan.image_prune(name="unused images", labels=["none=such"])
"""
FACTS = """
from bayplan_pyinfra import facts
from pyinfra import host
import json

kinds = [facts.Images, facts.Containers, facts.Networks, facts.Volumes, facts.Stacks]
found = [host.get_fact(kind, root=root) for root in ("/var/lib/bayplan", "/nowhere") for kind in kinds]
with open({target!r}, "w") as file:
    json.dump(found, file)
"""


def pyinfra(lab: Lab, host: Host, deploy: str, *options: str) -> subprocess.CompletedProcess[str]:
    home = lab.directory / "pyinfra"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh" / "known_hosts").write_text((host.directory / "known_hosts").read_text())
    (home / "config.py").write_text("CONNECT_TIMEOUT = 120\n")
    (home / "deploy.py").write_text(deploy)
    command = [str(Path(lab.python).parent / "pyinfra"), *options, host.address, "--ssh-user", "root", "--ssh-key", f"{host.directory}/key"]
    done = subprocess.run(
        [*command, "deploy.py"], cwd=home, env=lab.environment() | {"HOME": str(home)}, text=True, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def deploy_text(lab: Lab, host: Host) -> str:
    (lab.directory / "py-token").write_text("pyinfra-s3cret")
    archive = images.save(lab.directory / "py.tar", "example/py:1", Cmd=["sh"])
    registry = lab.registry.replace("{{ gateway }}", host.gateway)
    return DEPLOY.format(registry=registry, archive=str(archive), secret=str(lab.directory / "py-token"))


def test_a_dry_run_on_an_empty_host_leaves_nothing(lab: Lab, host: Host) -> None:
    before = host.ssh("ls -A /var/lib /usr/local/bin /tmp").stdout
    pyinfra(lab, host, deploy_text(lab, host), "--dry")
    assert host.ssh("ls -A /var/lib /usr/local/bin /tmp").stdout == before, "looking leaves nothing, the archive included"


def test_a_deploy_makes_the_host_so_and_the_second_one_changes_nothing(lab: Lab, host: Host) -> None:
    deploy = deploy_text(lab, host)
    pyinfra(lab, host, deploy, "-y")
    assert "pyweb" in host.ssh("bayplan ps").stdout and "pystack-one-1" in host.ssh("bayplan ps").stdout, "containers run"
    assert host.ssh("bayplan exec pyweb cat /run/secrets/token").stdout == "pyinfra-s3cret", "a secret was carried"
    again = pyinfra(lab, host, deploy, "-y").stderr
    assert again.count("No changes") >= 6 and "Success" not in again.split("--> Results")[0], "a second deploy changes nothing"
    assert host.ssh("ls -d /tmp/tmp.* 2>/dev/null; true").stdout == "", "requests and archives do not stay"


def test_images_are_built_and_moved_once(lab: Lab, host: Host) -> None:
    context = lab.directory / "pyapp"
    context.mkdir()
    run = "RUN --mount=type=secret,id=token test -s /run/secrets/token && touch /made"
    (context / "Dockerfile").write_text(f"ARG BASE\nFROM $BASE\n{run}\n")
    archive = images.save(lab.directory / "pyloaded.tar", "example/pyloaded:1", Cmd=["sh"])
    registry = lab.registry.replace("{{ gateway }}", host.gateway)
    deploy = IMAGES.format(registry=registry, context=str(context), archive=str(archive))
    first = pyinfra(lab, host, deploy, "-y")
    names = host.ssh("bayplan images; ls /srv").stdout
    assert all(word in names for word in ("local/pyapp", "example/pyloaded", "pyapp.tar")), "all is there"
    assert not [word for word in ("n0t-shown", "bu1lt-with") if word in first.stdout + first.stderr], "no secret is shown"
    again = pyinfra(lab, host, deploy, "-y").stderr
    assert again.count("No changes") >= 9 and "Success" not in again.split("--> Results")[0], "a second deploy changes nothing"
    assert host.ssh("ls -d /tmp/tmp.* 2>/dev/null; true").stdout == "", "contexts and archives do not stay"


def test_facts_tell_what_is_there_and_nothing_where_there_is_nothing(lab: Lab, host: Host) -> None:
    target = lab.directory / "facts.json"
    pyinfra(lab, host, FACTS.format(target=str(target)), "-y")
    images_, containers, networks, volumes, stacks, *nowhere = json.loads(target.read_text())
    assert {"pyweb", "pystack-one-1"} <= {each["Name"] for each in containers}, "containers"
    assert "pynet" in {each["Name"] for each in networks} and "pyvol" in {each["Name"] for each in volumes}, "networks and volumes"
    assert images_ and [each["name"] for each in stacks] == ["pystack"], "images and stacks"
    assert nowhere == [[], [], [], [], []], "an absent state is an empty one"
