"""From the options of `run` to a Compose service, and from it to the container that is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bayplan import verbs
from bayplan.cli.call import Call
from bayplan.cli.options import split
from bayplan.cli.run import changed, declared
from bayplan.cli.service import option_of, service_mapping
from bayplan.errors import Conflict, Invalid
from bayplan.model.container import (
    Container,
    Device,
    Endpoint,
    Healthcheck,
    Limits,
    Logging,
    Mount,
    Port,
    Restart,
    Ulimit,
)
from bayplan.verbs import names

SECOND = 1_000_000_000


def call(line: list[str], verb: str = "run") -> Call:
    entry = names()[verb]
    read = split(line, (*entry.options, *verbs.GLOBAL), interspersed=not entry.options_first)
    return Call(entry, read.values, read.arguments, "/nowhere")


def mapping(*options: str, command: tuple[str, ...] = (), variables: dict[str, str] | None = None) -> dict[str, Any]:
    return service_mapping(call([*options, "image", *command]), variables=variables or {}, directory="/here")


TRANSLATIONS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["-d", "--sig-proxy=false", "-q"], {}),
    (["-i", "-t"], {"stdin_open": True, "tty": True}),
    (["-it"], {"stdin_open": True, "tty": True}),
    (["--init"], {"init": True}),
    (["--init=false"], {"init": False}),
    (["--read-only", "--privileged"], {"read_only": True, "privileged": True}),
    (["-e", "A=1", "--env", "B=x=y"], {"environment": {"A": "1", "B": "x=y"}}),
    (["-p", "8080:80", "-p", "127.0.0.1:53:53/udp"], {"ports": ["8080:80", "127.0.0.1:53:53/udp"]}),
    (["--expose", "80"], {"expose": ["80"]}),
    (["-v", "data:/data", "-v", "/srv:/srv:ro"], {"volumes": ["data:/data", "/srv:/srv:ro"]}),
    (["-v", "./www:/www", "-v", ".:/all"], {"volumes": ["/here/www:/www", "/here:/all"]}),
    (["-v", "/anonymous"], {"volumes": ["/anonymous"]}),
    (
        ["--mount", "type=bind,src=/a,dst=/b,readonly"],
        {"volumes": [{"type": "bind", "source": "/a", "target": "/b", "read_only": True, "bind": {"create_host_path": False}}]},
    ),
    (
        ["--mount", "type=bind,source=./a,target=/b,bind-propagation=rshared"],
        {"volumes": [{"type": "bind", "source": "/here/a", "target": "/b", "bind": {"propagation": "rshared", "create_host_path": False}}]},
    ),
    (
        ["--mount", "source=v,target=/v,volume-nocopy"],
        {"volumes": [{"type": "volume", "source": "v", "target": "/v", "volume": {"nocopy": True}}]},
    ),
    (
        ["--mount", "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770"],
        {"volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "64m", "mode": 0o1770}}]},
    ),
    (["--tmpfs", "/run:size=64m,mode=1777"], {"tmpfs": ["/run:size=64m,mode=1777"]}),
    (["--network", "net"], {"networks": {"net": None}}),
    (["--net", "net"], {"networks": {"net": None}}),
    (["--network", "a", "--network", "b"], {"networks": {"a": None, "b": None}}),
    (["--network", "host"], {"network_mode": "host"}),
    (["--network", "none"], {"network_mode": "none"}),
    (["--network", "default"], {"network_mode": "bridge"}),
    (["--network", "container:db"], {"network_mode": "container:db"}),
    (
        ["--network", "a", "--network", "b", "--network-alias", "x", "--network-alias", "y", "--ip", "10.0.0.9"],
        {"networks": {"a": {"aliases": ["x", "y"], "ipv4_address": "10.0.0.9"}, "b": None}},
    ),
    (
        ["--network", "name=a,alias=one,alias=two,ip=10.0.0.3,ip6=fd00::3,mac-address=02:00:00:00:00:01"],
        {
            "networks": {
                "a": {
                    "aliases": ["one", "two"],
                    "ipv4_address": "10.0.0.3",
                    "ipv6_address": "fd00::3",
                    "mac_address": "02:00:00:00:00:01",
                }
            }
        },
    ),
    (
        ["--ip6", "fd00::9", "--mac-address", "02:00:00:00:00:02", "--network", "a"],
        {"networks": {"a": {"ipv6_address": "fd00::9", "mac_address": "02:00:00:00:00:02"}}},
    ),
    (["--ip", "10.88.0.9"], {"networks": {"bridge": {"ipv4_address": "10.88.0.9"}}}),
    (["-w", "/srv", "-u", "1000:1000"], {"working_dir": "/srv", "user": "1000:1000"}),
    (["--restart", "on-failure:3"], {"restart": "on-failure:3"}),
    (["--rm"], {"x-bayplan": {"auto_remove": True}}),
    (["--systemd", "always"], {"x-bayplan": {"systemd": "always"}}),
    (["--runtime", "runc"], {"runtime": "runc"}),
    (["--rm", "--restart", "no"], {"restart": "no", "x-bayplan": {"auto_remove": True}}),
    (["--profile", "strict"], {"x-bayplan": {"profile": "strict"}}),
    (
        ["-m", "512m", "--memory-swap", "-1", "--memory-reservation", "256m"],
        {"mem_limit": "512m", "memswap_limit": "-1", "mem_reservation": "256m"},
    ),
    (["--cpus", "1.5", "-c", "512", "--cpuset-cpus", "0-1"], {"cpus": "1.5", "cpu_shares": 512, "cpuset": "0-1"}),
    (["--cpuset-mems", "0"], {"x-bayplan": {"cpuset_mems": "0"}}),
    (["--cpu-period", "100000", "--cpu-quota", "50000"], {"cpu_period": 100000, "cpu_quota": 50000}),
    (["--pids-limit", "100"], {"pids_limit": 100}),
    (["--cap-add", "NET_ADMIN", "--cap-drop", "ALL"], {"cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"]}),
    (["--device", "/dev/fuse", "--device-cgroup-rule", "c 42:* rmw"], {"devices": ["/dev/fuse"], "device_cgroup_rules": ["c 42:* rmw"]}),
    (["--hostname", "web", "--domainname", "lan"], {"hostname": "web", "domainname": "lan"}),
    (["-h", "web"], {"hostname": "web"}),
    (["--add-host", "db:10.0.0.5"], {"extra_hosts": ["db:10.0.0.5"]}),
    (
        ["--dns", "9.9.9.9", "--dns-search", "lan", "--dns-option", "ndots:1", "--dns-opt", "rotate"],
        {"dns": ["9.9.9.9"], "dns_search": ["lan"], "dns_opt": ["ndots:1", "rotate"]},
    ),
    (["-l", "a=1", "--label", "b"], {"labels": {"a": "1", "b": ""}}),
    (["--annotation", "a=1"], {"annotations": {"a": "1"}}),
    (["--entrypoint", "/bin/sh"], {"entrypoint": ["/bin/sh"]}),
    (["--entrypoint", "/bin/sh -c"], {"entrypoint": ["/bin/sh -c"]}),
    (["--entrypoint", ""], {"entrypoint": []}),
    (["--stop-signal", "QUIT", "--stop-timeout", "30"], {"stop_signal": "QUIT", "stop_grace_period": "30s"}),
    (
        ["--health-cmd", "test -f /ok", "--health-interval", "5s", "--health-timeout", "2s", "--health-retries", "2"],
        {"healthcheck": {"test": ["CMD-SHELL", "test -f /ok"], "interval": "5s", "timeout": "2s", "retries": 2}},
    ),
    (
        ["--health-start-period", "1m", "--health-start-interval", "1s"],
        {"healthcheck": {"start_period": "1m", "start_interval": "1s"}},
    ),
    (["--no-healthcheck"], {"healthcheck": {"disable": True}}),
    (["--log-driver", "none"], {"logging": {"driver": "none"}}),
    (["--log-opt", "max-size=1m", "--log-opt", "max-file=2"], {"logging": {"options": {"max-size": "1m", "max-file": "2"}}}),
    (
        ["--ulimit", "nofile=1024:4096", "--ulimit", "core=0"],
        {"ulimits": {"nofile": {"soft": 1024, "hard": 4096}, "core": {"soft": 0, "hard": 0}}},
    ),
    (["--sysctl", "net.core.somaxconn=1024"], {"sysctls": {"net.core.somaxconn": "1024"}}),
    (["--shm-size", "128m"], {"shm_size": "128m"}),
    (["--security-opt", "no-new-privileges"], {"security_opt": ["no-new-privileges"]}),
    (["--group-add", "audio"], {"group_add": ["audio"]}),
    (["--pid", "host", "--ipc", "host", "--uts", "host"], {"pid": "host", "ipc": "host", "uts": "host"}),
    (["--userns", "private", "--cgroupns", "private"], {"userns_mode": "private", "cgroup": "private"}),
    (["--oom-score-adj", "-500"], {"oom_score_adj": -500}),
    (["--pull", "always", "--platform", "linux/arm64"], {"pull_policy": "always", "platform": "linux/arm64"}),
]


@pytest.mark.parametrize(("options", "expected"), TRANSLATIONS, ids=[" ".join(options) for options, _ in TRANSLATIONS])
def test_each_option_becomes_its_compose_key(options: list[str], expected: dict[str, Any]) -> None:
    assert mapping(*options) == {"image": "image", **expected}, "an option says exactly what the key says, and nothing else"


def test_every_option_of_run_is_translated_or_is_the_doors_own() -> None:
    seen = {word.split("=")[0].lstrip("-") for options, _ in TRANSLATIONS for word in options if word.startswith("-")}
    own = {"detach", "quiet", "attach", "cidfile", "detach-keys", "name", "publish-all", "volumes-from", "env-file", "label-file"}
    left = {option.name for option in names()["run"].options if not {option.name, option.short} & seen} - own
    assert not left, "no option is accepted without effect"


def test_the_arguments_after_the_image_are_the_command_as_they_are() -> None:
    assert mapping(command=("sh", "-c", "echo $HOME; -x", ""))["command"] == ["sh", "-c", "echo $HOME; -x", ""]


def test_a_variable_without_a_value_is_taken_from_the_callers_environment() -> None:
    assert mapping("-e", "HOME", "-e", "UNSET", variables={"HOME": "/root"})["environment"] == {"HOME": "/root"}


def test_files_of_variables_and_labels_are_read_and_options_win(tmp_path: Path) -> None:
    variables, labels = tmp_path / "env", tmp_path / "labels"
    variables.write_bytes(b"\xef\xbb\xbf# a comment\nA=file\nB= spaced # kept\n\nHOME\r\nUNSET\n")
    labels.write_text("a=file\nb\n")
    found = mapping(
        "--env-file", str(variables), "-e", "A=option", "--label-file", str(labels), "-l", "a=option", variables={"HOME": "/root"}
    )
    assert found["environment"] == {"A": "option", "B": " spaced # kept", "HOME": "/root"}
    assert found["labels"] == {"a": "option", "b": ""}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rm", "--restart", "always"], "--rm and --restart contradict"),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck and the other --health options contradict"),
        (["--network", "host", "--network", "a"], "--network host goes with no other network"),
        (["--network", "host", "--ip", "10.0.0.1"], "--network host takes no aliases"),
        (["--network", "name=a,speed=fast"], "unknown field 'speed'"),
        (["--network", "alias=a"], "it has no name="),
        (["--mount", "type=bind,color=red"], "unknown field 'color'"),
        (["--mount", "type=tmpfs,target=/t,tmpfs-mode=9"], "octal"),
        (["--ulimit", "nofile"], "it is not KEY=VALUE"),
        (["--ulimit", "nofile=many"], "two whole numbers"),
        (["--sysctl", "x"], "it is not KEY=VALUE"),
        (["-e", "=x"], "does not begin with a variable's name"),
        (["-e", "A B=x"], "does not begin with a variable's name"),
    ],
)
def test_what_contradicts_itself_or_is_malformed_is_refused(options: list[str], message: str) -> None:
    with pytest.raises((Invalid, Conflict)) as caught:
        mapping(*options)
    assert message in str(caught.value), "the message names the option and what is wrong with it"


def test_a_whole_command_line_declares_the_container_that_compose_would() -> None:
    line = (
        "--name web -p 8080:80 -v data:/data -e A=1 --network front --network-alias www -m 64m --cpus 0.5 --restart unless-stopped"
        " --health-cmd true --log-opt max-size=1m --device /dev/fuse --ulimit nofile=10:20 --tmpfs /run img:1 sleep 1"
    )
    assert declared(call(line.split())) == Container(
        name="web",
        image="img:1",
        command=("sleep", "1"),
        environment=(("A", "1"),),
        networks=(Endpoint("front", ("www",)),),
        ports=(Port(80, 8080),),
        mounts=(Mount("volume", "/data", "data"), Mount("tmpfs", "/run")),
        restart=Restart("unless-stopped"),
        healthcheck=Healthcheck(("CMD-SHELL", "true")),
        logging=Logging("json-file", (("max-size", "1m"),)),
        devices=(Device("/dev/fuse", "/dev/fuse"),),
        ulimits=(Ulimit("nofile", 10, 20),),
        limits=Limits(memory=64 << 20, cpus=500_000_000),
    )


@pytest.mark.parametrize("name", ["../x", "-x", "a b", "", "x\ny", "é"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    if name:
        with pytest.raises(Invalid):
            declared(call([f"--name={name}", "image"]))
    else:
        assert declared(call(["image"])).name == "", "no name is made up before the container is"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "http"], "--publish: "),
        (["-v", "a:b"], "--volume: "),
        (["-m", "lots"], "--memory: "),
        (["--profile", "lax"], "--profile: "),
        (["--stop-timeout", "-1"], "--stop-timeout: "),
        (["--health-interval", "soon"], "--health-cmd: "),
        (["--env-file", "/no/such"], "reading /no/such: no such file or directory"),
    ],
)
def test_what_compose_calls_wrong_is_said_of_the_option(options: list[str], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        declared(call([*options, "image"]))
    assert str(caught.value).startswith(message), "nobody typed a key of Compose"


def test_every_key_that_an_option_becomes_has_its_way_back() -> None:
    keys = {key for _, mapping in TRANSLATIONS for key in mapping if key != "x-bayplan"}
    assert not [key for key in keys if not option_of(key)]


def test_update_changes_what_was_given_and_nothing_else() -> None:
    before = Container("c", "i", limits=Limits(memory=100 << 20, pids=5, cpus=1), restart=Restart("always"))
    after = changed(call(["--memory", "200m", "--cpus", "2", "c"], "update"), before)
    assert after == before._replace(limits=Limits(memory=200 << 20, pids=5, cpus=2_000_000_000))
    assert changed(call(["--restart", "no", "c"], "update"), before) == before._replace(restart=Restart())


def test_update_does_not_put_memory_above_memory_and_swap() -> None:
    before = Container("c", "i", limits=Limits(memory=100 << 20, memory_swap=150 << 20))
    with pytest.raises(Invalid, match="cannot be under --memory"):
        changed(call(["--memory", "200m", "c"], "update"), before)
