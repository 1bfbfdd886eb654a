"""Playbooks over SSH against a host that had nothing but Python."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import images
import pytest
from conftest import PROJECT, Lab
from disposable import Host

MODULE = "bayplan.containers."
RUNTIMES = "ls -A /var/lib /usr/local/bin"


def task(module: str, **options: Any) -> dict[str, Any]:
    return {"name": module, MODULE + module: options}


def web(name: str, **options: Any) -> dict[str, Any]:
    return task("container", name=name, image="{{ registry }}/web:1", **options)


def get(address: str, port: int) -> str:
    """What a web server answers; it may have been started a moment ago."""
    for _ in range(100):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}:{port}/", timeout=30) as response:
            return str(response.read().decode())
        time.sleep(0.5)
    raise AssertionError(f"nothing answers at {address}:{port}")


def pid(host: Host, name: str) -> int:
    return int(json.loads(host.ssh(f"bayplan inspect {name}").stdout)[0]["State"]["Pid"])


def test_a_check_on_an_empty_host_says_what_would_be_and_leaves_nothing(lab: Lab, host: Host) -> None:
    before = host.ssh(RUNTIMES).stdout
    run = lab.play(host, web("web"), check=True)
    assert run.changed, "the check says that something would be done"
    assert ("create", "container", "web") in run.steps, "the check names the step"
    assert host.ssh(RUNTIMES).stdout == before, "a check leaves nothing on a host, the runtime included"
    assert host.ssh("ls -d /root/.ansible/tmp/ansible-tmp-* 2>/dev/null; true").stdout == "", "the archive went with the task's directory"


def test_the_demo_makes_a_host_what_it_declares_and_the_second_run_changes_nothing(lab: Lab, host: Host) -> None:
    lab.playbook(PROJECT / "playbooks" / "demo.yml", host)
    assert get(host.address, 8081).startswith("hello from"), "the first web server answers behind its published port"
    assert get(host.address, 8082).startswith("good day from"), "the second one too"
    host.ssh("for i in $(seq 100); do bayplan logs client | grep -q 'good day' && break; sleep 0.5; done")
    seen = host.ssh("bayplan logs client").stdout
    assert "hello from" in seen and "good day from" in seen, "the client reaches both by name"
    again = lab.playbook(PROJECT / "playbooks" / "demo.yml", host)
    assert not again.changed, "a second run changes nothing"
    check = lab.playbook(PROJECT / "playbooks" / "demo.yml", host, check=True)
    assert not check.changed, "and a check agrees"


def test_the_command_is_on_the_hosts_path_and_names_the_real_interpreter(host: Host) -> None:
    assert "web1" in host.ssh("bayplan ps").stdout, "`bayplan` is a command on the host afterwards"
    first = host.ssh("head -1 /usr/local/bin/bayplan").stdout
    assert "pyenv" not in first and first.startswith("#!/usr/bin/python3."), "the launcher names an interpreter, not a shim"


def test_one_option_changed_changes_that_container_only_and_in_place_where_the_kernel_allows(lab: Lab, host: Host) -> None:
    lab.play(host, web("one", memory="64m"), web("two", memory="64m"))
    one, two = pid(host, "one"), pid(host, "two")
    run = lab.play(host, web("one", memory="96m"), web("two", memory="64m"))
    assert run.steps == [("update", "container", "one")], "only the changed one, and in place"
    assert (pid(host, "one"), pid(host, "two")) == (one, two), "both kept their process"
    run = lab.play(host, web("one", memory="96m", env={"GREETING": "hi"}), web("two", memory="64m"))
    assert run.steps == [("replace", "container", "one")], "a variable cannot be changed on a running container"
    assert pid(host, "two") == two, "the other one kept its process"


def test_stopped_started_and_absent_need_only_the_name(lab: Lab, host: Host) -> None:
    declared = web("named", env={"GREETING": "kept"})
    stopped, started, absent = (task("container", name="named", state=state) for state in ("stopped", "started", "absent"))
    run = lab.play(host, declared, stopped, stopped, started, started)
    assert run.steps_by_task[1:3] == [[("stop", "container", "named")], []], "it is stopped once"
    assert run.steps_by_task[3:5] == [[("start", "container", "named")], []], "and started once"
    assert "GREETING=kept" in host.ssh("bayplan inspect named").stdout, "what was declared before stays"
    run = lab.play(host, declared, absent, absent)
    assert run.steps_by_task == [[], [("remove", "container", "named")], []], "the declaration still agrees, and it is removed once"


STACK = {
    "services": {
        "web": {"image": "{{ registry }}/web:1", "ports": ["8090:80"], "volumes": ["pages:/pages"], "env_file": ["{{ env_file }}"],
                "secrets": ["token"]},
        "other": {"image": "{{ registry }}/busybox:1", "command": ["sleep", "1000"], "depends_on": ["web"], "init": True},
    },
    "volumes": {"pages": {}},
    "secrets": {"token": {"file": "{{ secret }}"}},
}  # fmt: skip


@pytest.fixture
def stack(lab: Lab) -> dict[str, Any]:
    (lab.directory / "web.env").write_text("GREETING=from a file\n")
    (lab.directory / "token").write_text("s3cret-of-the-stack")
    return {"env_file": str(lab.directory / "web.env"), "secret": str(lab.directory / "token")}


def test_a_stack_is_converged_in_one_call_with_the_files_that_it_names(lab: Lab, host: Host, stack: dict[str, Any]) -> None:
    declare = task("stack", definition=STACK, project_name="shop")
    first = lab.play(host, declare, vars=stack)
    assert ("create", "container", "shop-web-1") in first.steps and ("create", "volume", "shop_pages") in first.steps
    assert get(host.address, 8090).startswith("from a file"), "env_file was read on the controller"
    assert host.ssh("bayplan exec shop-web-1 cat /run/secrets/token").stdout == "s3cret-of-the-stack", "and so was the secret"
    assert not lab.play(host, declare, vars=stack).changed, "a second run changes nothing"
    (lab.directory / "token").write_text("another")
    assert lab.play(host, declare, vars=stack).steps == [("replace", "container", "shop-web-1")], "another content is a change"


def test_a_secret_is_in_no_record_log_or_result(lab: Lab, host: Host, stack: dict[str, Any]) -> None:
    (lab.directory / "token").write_text("n0where-to-be-seen")
    run = lab.play(host, task("stack", definition=STACK, project_name="shop"), vars=stack)
    assert "n0where-to-be-seen" not in run.output + json.dumps(run.results), "no result shows it"
    found = host.ssh("grep -rl n0where-to-be-seen /var/lib/bayplan/db.sqlite* /var/log /root 2>/dev/null; true").stdout
    assert found == "", "no record keeps it"


def test_an_absent_stack_keeps_its_volumes_unless_it_is_told_otherwise(lab: Lab, host: Host, stack: dict[str, Any]) -> None:
    lab.play(host, task("stack", definition=STACK, project_name="shop"), vars=stack)
    lab.play(host, task("stack", definition=STACK, project_name="shop", state="absent"), vars=stack)
    assert "shop" not in host.ssh("bayplan ps -a").stdout and "shop_pages" in host.ssh("bayplan volume ls").stdout
    lab.play(host, task("stack", definition=STACK, project_name="shop", state="absent", remove_volumes=True), vars=stack)
    assert "shop_pages" not in host.ssh("bayplan volume ls").stdout, "its data went because it was said"


def test_a_killed_container_and_a_flushed_table_are_found_and_mended_and_nothing_else(lab: Lab, host: Host) -> None:
    tasks = [web("fragile", ports=["8095:80"], restart="no"), web("steady", ports=["8096:80"])]
    lab.play(host, *tasks)
    steady = pid(host, "steady")
    host.ssh(f"kill -9 {pid(host, 'fragile')}; until bayplan ps -a | grep fragile | grep -q Exited; do sleep 0.1; done")
    host.ssh("nft list tables | grep bayplan | while read t f n; do nft flush table $f $n; done")
    check = lab.play(host, *tasks, check=True)
    run = lab.play(host, *tasks)
    repairs = {step for step in run.steps if step[:2] == ("repair", "firewall")}
    assert ("repair", "firewall", "port 8096/tcp of steady") in repairs, "it looks at the world and not only at its records"
    assert [step for step in run.steps if step not in repairs] == [("start", "container", "fragile")], (
        "what was killed runs again, nothing else"
    )
    assert repairs <= set(check.steps) and ("start", "container", "fragile") in check.steps, "a check had said so"
    assert get(host.address, 8095).startswith("hello") and get(host.address, 8096).startswith("hello"), "ports answer again"
    assert pid(host, "steady") == steady, "the other container kept its process"
    again = lab.play(host, *tasks)
    assert (again.changed, again.steps) == (False, []), "the next run finds nothing to do"


def test_an_image_is_loaded_from_the_controller_and_sent_only_where_it_is_not(lab: Lab, host: Host) -> None:
    images.save(lab.directory / "app.tar", "example/app:7", Cmd=["sh"])
    declare = task("image", name="example/app:7", archive=str(lab.directory / "app.tar"))
    first = lab.play(host, declare, verbose=True)
    assert first.steps == [("load", "image", "example/app:7")], "the archive was sent and read"
    assert "image.tar" in first.output, "sending shows in what ansible says when it is asked to say all"
    assert "example/app" in host.ssh("bayplan images").stdout, "the image is there"
    again = lab.play(host, declare, verbose=True)
    assert (again.changed, again.steps) == (False, []), "the host has that image already"
    assert "image.tar" not in again.output, "and it is not sent again"


@pytest.fixture
def context(lab: Lab) -> dict[str, Any]:
    """A build's context on the controller, and an archive."""
    directory = lab.directory / "app"
    directory.mkdir(exist_ok=True)
    (directory / "page").write_text("carried")
    (directory / "left").write_text("n0t-carried")
    (directory / ".dockerignore").write_text("left\n")
    (directory / "Dockerfile").write_text(
        "ARG BASE\nFROM $BASE\nCOPY . /app/\nRUN --mount=type=secret,id=token test -s /run/secrets/token && touch /made\n"
    )
    images.save(lab.directory / "loaded.tar", "example/loaded:1", Cmd=["true"])  # another image than busybox:1 in the registry
    return {"context": str(directory), "archive": str(lab.directory / "loaded.tar")}


IMAGES = [
    task("registry_login", registry="{{ registry }}", username="somebody", password="kept-but-n0t-shown"),
    task("image", name="{{ registry }}/busybox:1"),
    task("image_build", name="{{ registry }}/app:1", context="{{ context }}", args={"BASE": "{{ registry }}/busybox:1"},
         secrets={"token": "bu1lt-with"}),
    task("image_tag", name="{{ registry }}/app:1", tags=["local/app:2"]),
    task("image_push", name="{{ registry }}/app:1"),
    task("image_copy", source="docker://{{ registry }}/app:1", target="oci:/srv/app:1"),
    task("image_save", names=["local/app:2"], path="/srv/app.tar"),
    task("image_load", archive="{{ archive }}"),
]  # fmt: skip


def test_images_are_built_moved_and_kept_as_a_check_says_and_once(lab: Lab, new_host: Callable[[], Host], context: dict[str, Any]) -> None:
    host = new_host()
    check = lab.play(host, *IMAGES, check=True, vars=context)
    assert host.ssh("find /var/lib /srv /root/.docker -mindepth 1 2>/dev/null; true").stdout == "", "a check leaves nothing"
    first = lab.play(host, *IMAGES, vars=context)
    assert check.steps_by_task == first.steps_by_task and all(first.steps_by_task), "each task does what the check said"
    again = lab.play(host, *IMAGES, vars=context)
    assert (again.steps, again.changed) == ([], False), "and the second time there is nothing to do"
    assert host.ssh("bayplan run --rm --network none local/app:2 ls /app").stdout.split() == ["Dockerfile", "page"], "what travelled"
    shown = first.output + json.dumps(first.results)
    assert "n0t-shown" not in shown and "bu1lt-with" not in shown, "no result shows a secret"
    assert host.ssh("grep -rl bu1lt-with /var/lib/bayplan /root /srv 2>/dev/null; true").stdout == "", "and nothing keeps it"
    host.ssh("bayplan tag local/app:2 example/loaded:1")
    unused = task("image_prune", build_cache=True)
    check, first, again = lab.play(host, unused, check=True), lab.play(host, unused), lab.play(host, unused)
    assert check.steps == first.steps and ("remove", "image") in {step[:2] for step in first.steps}, "an image without a name goes"
    assert not again.changed, "once"


def test_a_job_in_the_background_converges_a_host_that_had_no_runtime(lab: Lab, new_host: Callable[[], Host]) -> None:
    empty = new_host()
    background = web("later") | {"async": 120, "poll": 2}
    run = lab.play(empty, background)
    assert "later" in empty.ssh("bayplan ps").stdout, "the job did what the task says"
    assert ("create", "container", "later") in run.steps, "its result is the module's"


def test_module_defaults_reach_every_module_of_the_group(lab: Lab, host: Host) -> None:
    defaults = {"group/bayplan.containers.containers": {"root": "/var/lib/bayplan/other-state"}}
    run = lab.play(host, task("container_info"), task("image_info"), module_defaults=defaults)
    assert run.results[0]["containers"] == [] and run.results[1]["images"] == [], "another root is another, empty state"


MISTAKES = [
    (
        {"container": {"name": "it", "image": "busybox", "colour": "red"}},
        "Unsupported parameters for (bayplan.containers",
    ),
    ({"container": {"name": "it", "ports": ["80:80"]}}, "name the image too"),
    ({"container": {"name": "it", "image": "NOT VALID"}}, "NOT VALID"),
    ({"container": {"name": "it", "image": "{{ registry }}/nothing:1"}}, "nothing"),
    ({"container": {"name": "it", "image": "{{ registry }}/web:1", "ports": [1342]}}, "quote"),
    ({"container": {"name": "gone", "state": "started"}}, "gone"),
    ({"stack": {"project_name": "p", "definition": {"services": {"a": {"image": "busybox", "imagee": 1}}}}}, "imagee"),
    ({"stack": {"project_name": "p"}}, "definition"),
    ({"stack": {"project_name": "p", "files": ["nowhere.yaml"]}}, "nowhere.yaml"),
    ({"network": {"name": "net", "subnet": "10.0.0.0/99"}}, "10.0.0.0/99"),
]


@pytest.mark.parametrize(("mistake", "told"), MISTAKES, ids=lambda value: value if isinstance(value, str) else None)
def test_a_mistake_is_told_in_one_message_and_changes_nothing(lab: Lab, host: Host, mistake: dict[str, Any], told: str) -> None:
    ((module, options),) = mistake.items()
    run = lab.play(host, task(module, **options), fail=True)
    assert told in run.last["msg"], "the message names what is wrong"
    assert "Traceback" not in run.output and "bug" not in run.last["msg"], "and it is a message"
    assert "\n" not in run.last["msg"].strip(), "one message"


def test_without_root_one_message_says_what_to_do(lab: Lab, host: Host) -> None:
    host.ssh("grep -q ^plain: /etc/passwd || echo plain:x:1234:1234::/tmp:/bin/sh >> /etc/passwd; sed -i '/^plain:/d' /etc/shadow")
    host.ssh("echo 'plain:*:::::::' >> /etc/shadow")
    run = lab.play(host, web("it"), become=True, become_user="plain", become_method="su", fail=True)
    assert "root" in run.last["msg"], "the remedy is named"


def test_registry_auth_is_neither_shown_nor_kept(lab: Lab, host: Host) -> None:
    auth = {"username": "somebody", "password": "pa55-for-one-call"}
    run = lab.play(host, task("image", name="{{ registry }}/busybox:1", registry_auth=auth, pull="always"))
    assert "pa55-for-one-call" not in json.dumps(run.results), "no result shows it"
    assert host.ssh("grep -rl pa55-for-one-call /var/lib/bayplan /root /var/log 2>/dev/null; true").stdout == "", "nothing keeps it"


def test_an_older_runtime_is_swept_when_nothing_has_used_it_for_a_day(lab: Lab, host: Host) -> None:
    old, used, recent = "0" * 64, "1" * 64, "2" * 64
    for name in (old, used, recent):
        age = "now" if name == recent else "2 days ago"
        host.ssh(f"mkdir /var/lib/bayplan/runtime/{name}; touch -d '{age}' /var/lib/bayplan/runtime/{name}/lock")
    host.ssh(f"nohup flock -s /var/lib/bayplan/runtime/{used}/lock sleep 1000 >/dev/null 2>&1 &")
    current = host.ssh("grep -o -m 1 '/var/lib/bayplan/runtime/[0-9a-f]*' /usr/local/bin/bayplan | head -n 1").stdout.strip()
    assert len(current.rpartition("/")[2]) == 64, "the launcher names its runtime"
    host.ssh(f"rm -rf {current}")
    lab.play(host, task("container_info"))
    left = host.ssh("ls /var/lib/bayplan/runtime").stdout.split()
    assert old not in left, "what nothing uses is swept"
    assert used in left, "what a call runs from stays"
    assert recent in left, "what another controller may want again stays for a day"
    assert current.rpartition("/")[2] in left, "the runtime came back by itself"
    host.ssh(f"touch -d '2 days ago' {current}/lock")
    lab.play(host, task("container_info"))
    assert host.ssh(f"find {current}/lock -mmin -60").stdout, "a task leaves the time of its use"
