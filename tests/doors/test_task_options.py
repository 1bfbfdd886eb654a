"""A task's options and a Compose document are two ways to write the same declaration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bayplan import controller
from bayplan.errors import Invalid
from bayplan.model import task as tasks
from bayplan.model.compose import parse_declaration
from bayplan.model.container_options import SERVICE
from bayplan.model.options import module_options

ansible = pytest.importorskip("ansible.module_utils.common.arg_spec")


def options(module: str, **given: Any) -> dict[str, Any]:
    """What the action plugin makes of a task: aliases resolved, defaults filled in, types checked."""
    from bayplan.model.options import argument_spec

    checked = ansible.ArgumentSpecValidator(argument_spec(module_options(module))).validate(given)
    assert not checked.error_messages, checked.error_messages
    return dict(checked.validated_parameters)


def declared(service: dict[str, Any], **door: Any) -> Any:
    return parse_declaration({"services": {"web": service}, "x-bayplan": {"wait_timeout": "2m", **door}})


SAME = [
    ({"env": {"A": 1, "B": "x"}}, {"environment": {"A": "1", "B": "x"}}),
    ({"environment": ["A=1"]}, {"environment": {"A": "1"}}),
    ({"memory": "64m", "memory_swap": "-1", "cpus": 1.5}, {"mem_limit": "64m", "memswap_limit": "-1", "cpus": "1.5"}),
    ({"published_ports": ["8080:80", "127.0.0.1:53:53/udp"]}, {"ports": ["8080:80", "127.0.0.1:53:53/udp"]}),
    ({"restart_policy": "on-failure:3"}, {"restart": "on-failure:3"}),
    ({"restart": "always"}, {"restart": "always"}),
    ({"restart_policy": "no"}, {"restart": "no"}),
    ({"etc_hosts": {"db": "10.0.0.1"}}, {"extra_hosts": {"db": "10.0.0.1"}}),
    ({"networks": [{"name": "net", "aliases": ["a"], "ipv4_address": "10.1.0.7"}, "other"]},
     {"networks": {"net": {"aliases": ["a"], "ipv4_address": "10.1.0.7"}, "other": None}}),
    ({"networks": ["net"]}, {"networks": ["net"]}),
    ({"ulimits": ["nofile:100:200", "nproc:5"]}, {"ulimits": {"nofile": {"soft": 100, "hard": 200}, "nproc": 5}}),
    ({"stop_timeout": 5}, {"stop_grace_period": "5s"}),
    ({"command": []}, {"command": []}),
    ({"command": "sleep '1 0'"}, {"command": ["sleep", "1 0"]}),
    ({"mounts": [{"type": "tmpfs", "target": "/t"}]}, {"volumes": [{"type": "tmpfs", "target": "/t"}]}),
    ({"capabilities": ["NET_ADMIN"], "interactive": True, "dns_servers": ["10.0.0.2"], "workdir": "/w"},
     {"cap_add": ["NET_ADMIN"], "stdin_open": True, "dns": ["10.0.0.2"], "working_dir": "/w"}),
    ({"healthcheck": {"test": ["CMD", "true"], "interval": "5s"}}, {"healthcheck": {"test": ["CMD", "true"], "interval": "5s"}}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "service"), SAME, ids=lambda value: next(iter(value)))
def test_a_task_declares_what_the_same_service_declares(given: dict[str, Any], service: dict[str, Any]) -> None:
    task = parse_declaration(tasks.container_want(options("container", name="web", image="busybox", **given)))
    assert task.containers[0].spec == declared({"image": "busybox", **service}).containers[0].spec


SAMPLES: dict[str, Any] = {
    "env_file": [],
    "healthcheck": {"test": ["CMD", "true"]},
    "logging": {"driver": "none"},
    "network_mode": "none",
    "networks": ["net"],
    "ports": ["80"],
    "expose": ["80"],
    "extra_hosts": {"a": "10.0.0.1"},
    "dns": "10.0.0.1",
    "volumes": ["vol:/v"],
    "tmpfs": "/t",
    "platform": "linux/amd64",
    "shm_size": "1m",
    "secrets": [],
    "configs": [],
    "cpus": "1",
    "cpuset": "0",
    "ulimits": {"nofile": 5},
    "pid": "host",
    "ipc": "host",
    "uts": "host",
    "cgroup": "host",
    "userns_mode": "private",
    "devices": ["/dev/null"],
    "device_cgroup_rules": ["c 1:3 rwm"],
    "security_opt": ["no-new-privileges"],
    "stop_signal": "TERM",
    "sysctls": {"net.ipv4.ip_forward": "1"},
    "deploy": {"resources": {"limits": {"cpus": "1"}}},
    "cap_add": ["CHOWN"],
    "cap_drop": ["CHOWN"],
    "stop_grace_period": "1s",
    "labels": {"a": "b"},
    "annotations": {"a": "b"},
    "environment": {"a": "b"},
    "depends_on": ["web2"],
    "mem_limit": "64m",
    "mem_reservation": "32m",
    "memswap_limit": "128m",
    "cpu_quota": 50000,
    "cpu_period": 100000,
    "user": "0:0",
    "working_dir": "/",
    "hostname": "h",
    "group_add": ["0"],
    "dns_search": ["a.b"],
    "dns_opt": ["ndots:1"],
    "oom_score_adj": 5,
}


@pytest.mark.parametrize("option", list(SERVICE), ids=lambda option: option.name)
def test_every_option_is_a_key_that_is_understood(option: Any) -> None:
    usual = {"str": "text", "bool": True, "int": 5, "raw": "text", "list": ["text"], "path": "/p", "dict": {}}[option.type]
    given = {option.name: SAMPLES.get(option.name, usual)}
    if option.name == "memswap_limit":
        given["mem_limit"] = "64m"
    want = tasks.container_want(options("container", name="web", image="busybox", **given))
    if option.name == "depends_on":
        want["services"]["web2"] = {"image": "busybox"}
    assert any(container.spec.name == "web" for container in parse_declaration(want).containers)


def test_only_a_name_is_a_container_whose_declaration_is_not_known() -> None:
    for state in ("started", "stopped", "absent"):
        wanted = parse_declaration(tasks.container_want(options("container", name="web", state=state))).containers[0]
        assert (wanted.state, wanted.known) == (state, False), "the recorded declaration stays"


def test_a_restart_now_is_no_policy_and_a_policy_is_no_restart() -> None:
    now = parse_declaration(tasks.container_want(options("container", name="web", image="busybox", restart=True))).containers[0]
    assert now.restart and now.spec.restart.name == "no"
    policy = parse_declaration(tasks.container_want(options("container", name="web", image="busybox", restart="always"))).containers[0]
    assert not policy.restart and policy.spec.restart.name == "always"


@pytest.mark.parametrize(
    "given", [{"ports": ["80:80"]}, {"state": "present"}, {"image": "busybox", "restart": "always", "restart_policy": "no"}]
)
def test_options_that_contradict_each_other_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        tasks.container_want(options("container", name="web", **given))


def test_a_network_and_a_volume_are_what_compose_says() -> None:
    labels = {"team": "shop"}
    network = parse_declaration(tasks.network_want(options("network", name="net", subnet="10.5.0.0/24", gateway="10.5.0.9", labels=labels)))
    ipam = {"config": [{"subnet": "10.5.0.0/24", "gateway": "10.5.0.9"}]}
    assert network.networks == parse_declaration({"networks": {"net": {"ipam": ipam, "labels": labels}}}).networks
    volume = parse_declaration(tasks.volume_want(options("volume", name="data", driver_opts={"type": "tmpfs", "device": "tmpfs"})))
    same = {"volumes": {"data": {"driver_opts": {"type": "tmpfs", "device": "tmpfs"}}}}
    assert volume.volumes == parse_declaration(same).volumes


def test_an_image_is_wanted_with_its_tags(tmp_path: Path) -> None:
    want = tasks.image_want(options("image", name="busybox:1", tags=["local/bb:1"], pull="always"))
    image = parse_declaration(want).images[0]
    assert (image.pull, len(image.tags)) == ("always", 1)


def test_a_secret_of_a_task_is_read_here_and_carried(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "web.env").write_text("A=1\n")
    given = options("container", name="web", image="busybox", env_file="web.env", secrets=[{"source": "token", "target": "token"}])
    spec = parse_declaration(controller.container_with_files(given, base=str(tmp_path))).containers[0].spec
    assert spec.files[0].target.endswith("/token") and dict(spec.environment)["A"] == "1"
    assert "s3cret" not in repr(spec), "a secret is not shown"


def test_a_stack_from_files_and_from_a_definition_is_the_same(tmp_path: Path) -> None:
    definition = {"services": {"web": {"image": "busybox:${TAG}", "ports": ["80:80"]}}}
    (tmp_path / "compose.yaml").write_text("services: {web: {image: 'busybox:${TAG}', ports: ['80:80']}}\n")
    common = {"project_name": "shop", "environment": {"TAG": "7"}}
    written = controller.stack_want(options("stack", definition=definition, **common), base=str(tmp_path))
    read = controller.stack_want(options("stack", files=[str(tmp_path / "compose.yaml")], **common), base=str(tmp_path))
    assert parse_declaration(written) == parse_declaration(read), "whoever reads it"
    assert parse_declaration(read).containers[0].spec.image.endswith(":7"), "variables of the task count"
