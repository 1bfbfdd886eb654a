from __future__ import annotations

import base64
from typing import Any

import pytest

from bayplan.errors import Invalid
from bayplan.model.compose import parse_declaration
from bayplan.model.container import Container, Dependency, Endpoint, Healthcheck, Logging, Mount, Port, Restart, Ulimit
from bayplan.model.declaration import WantedVolume
from bayplan.model.service import COMPOSE_KEYS, RECORDED, parse_service, service_document
from bayplan.model.volume import Volume
from bayplan.plan.order import sharing


def one(service: dict[str, Any], **top: Any) -> Container:
    """The container that a document of one service without a project declares."""
    return parse_declaration({"services": {"web": {"image": "nginx", **service}}, **top}).containers[0].spec


def in_project(service: dict[str, Any], **top: Any) -> Container:
    document = {"name": "app", "services": {"web": {"image": "nginx", **service}, "db": {"image": "pg"}}, **top}
    return next(each.spec for each in parse_declaration(document).containers if each.spec.service == "web")


def test_without_a_project_names_are_literal() -> None:
    declaration = parse_declaration({"services": {"web": {"image": "nginx", "networks": ["there"], "volumes": ["data:/d"]}}})
    spec = declaration.containers[0].spec
    assert (spec.name, spec.project, spec.service) == ("web", "", ""), "the key is the container's name"
    assert spec.networks == (Endpoint("there"),) and declaration.networks == (), "a network that is not declared must be there"
    assert declaration.volumes == (WantedVolume(Volume("data"), implied=True),), "a volume is made on demand"
    assert one({}).networks == () and one({}).network_mode == "bridge", "the built-in network is the default"


def test_a_projects_names_are_composes() -> None:
    document = {
        "name": "app",
        "services": {
            "web": {"image": "nginx", "networks": ["front", "out"], "volumes": ["data:/d", "theirs:/t"], "depends_on": ["db"]},
            "db": {"image": "pg", "container_name": "the-db", "network_mode": "service:web"},
            "job": {"image": "pg"},
        },
        "networks": {"front": None, "out": {"external": True, "name": "outside"}},
        "volumes": {"data": {"name": "own_name"}, "theirs": {"external": True}},
    }
    found = parse_declaration(document)
    web, db, job = (each.spec for each in found.containers)
    assert (web.name, db.name, web.project, web.service) == ("app-web-1", "the-db", "app", "web"), "containers"
    assert [each.network for each in web.networks] == ["app_front", "outside"], "networks"
    assert web.networks[0].aliases == ("web",), "the service's name is an alias on every network"
    assert [each.source for each in web.mounts] == ["own_name", "theirs"], "volumes"
    assert web.depends_on == (Dependency("the-db"),) and db.network_mode == "container:app-web-1", "other services"
    assert job.networks == (Endpoint("app_default", ("job",)),), "who names no network is on the default one"
    names = [(each.spec.name, each.external) for each in found.networks]
    assert names == [("app_default", False), ("app_front", False), ("outside", True)], "declared networks"


@pytest.mark.parametrize("key", ["network_mode", "pid", "ipc", "uts"])
def test_a_namespace_of_another_service_is_joined_and_that_one_starts_first(key: str) -> None:
    document = {"name": "app", "services": {"a": {"image": "x", key: "service:b"}, "b": {"image": "x"}}}
    first = next(each.spec for each in parse_declaration(document).containers if each.spec.service == "a")
    assert getattr(first, key) == "container:app-b-1" and sharing(first) == ("app-b-1",), "by its container's name"


def test_no_default_network_is_made_where_nobody_is_on_it() -> None:
    document = {"name": "app", "services": {"web": {"image": "x", "network_mode": "none"}}, "networks": {"front": {}}}
    assert [each.spec.name for each in parse_declaration(document).networks] == ["app_front"], "no default"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [Port(80, 0)]),
        (80, [Port(80, 0)]),
        ("8080:80", [Port(80, 8080)]),
        ("127.0.0.1:8080:80/udp", [Port(80, 8080, "udp", "127.0.0.1")]),
        ("127.0.0.1::80", [Port(80, 0, "tcp", "127.0.0.1")]),
        ("[::1]:8080:80", [Port(80, 8080, "tcp", "::1")]),
        ("3000-3001:4000-4001", [Port(4000, 3000), Port(4001, 3001)]),
        ("9000-9001", [Port(9000, 0), Port(9001, 0)]),
        ({"target": 80, "published": "81", "protocol": "udp", "host_ip": "10.0.0.1", "mode": "host"}, [Port(80, 81, "udp", "10.0.0.1")]),
    ],
)
def test_ports_in_all_forms(text: Any, expected: list[Port]) -> None:
    assert list(one({"ports": [text]}).ports) == expected, "target, published, protocol, address"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:/d", Mount("volume", "/d", "data")),
        ("/anonymous", Mount("volume", "/anonymous")),
        ("data:/d:ro,nocopy", Mount("volume", "/d", "data", read_only=True, nocopy=True)),
        ("/a/../b:/d:Z,rslave", Mount("bind", "/d", "/b", propagation="rslave")),
        ("./x:/d//e/", Mount("bind", "/d/e", "/srv/app/x")),
        ({"type": "bind", "source": "..", "target": "/d", "bind": {"create_host_path": False}},
         Mount("bind", "/d", "/srv", create_host_path=False)),
        ({"type": "volume", "source": "data", "target": "/d", "volume": {"subpath": "a/b"}}, Mount("volume", "/d", "data", subpath="a/b")),
        ({"type": "tmpfs", "target": "/d", "tmpfs": {"size": "1m", "mode": 0o1777}}, Mount("tmpfs", "/d", size=1 << 20, mode=0o1777)),
    ],
)  # fmt: skip
def test_volumes_in_all_forms(text: Any, expected: Mount) -> None:
    found = one({"volumes": [text]}, **{"x-bayplan": {"project_directory": "/srv/app"}})
    assert found.mounts == (expected,), "kind, target, source, options"


def test_tmpfs_lines_have_the_options_of_mount() -> None:
    found = one({"tmpfs": ["/run", "/tmp:size=64m,mode=1777,uid=33,noexec,ro"]}).mounts
    assert found[0] == Mount("tmpfs", "/run"), "a path alone"
    assert found[1] == Mount("tmpfs", "/tmp", read_only=True, size=64 << 20, mode=0o1777, options=("noexec", "uid=33")), "options"


def test_every_other_key_is_read() -> None:
    spec = one(
        {
            "command": "sh -c 'echo a b'", "entrypoint": [], "environment": ["A=1", "B"], "labels": {"x": 1, "y": None}, "user": 1000,
            "working_dir": "/a/./b", "hostname": "h", "domainname": "d.example", "cap_add": ["cap_net_admin", "SYS_TIME"],
            "cap_drop": ["ALL"], "privileged": True, "read_only": "true", "init": True, "tty": True, "stdin_open": True,
            "restart": "on-failure:3", "healthcheck": {"test": "true", "interval": "1m", "retries": 5}, "stop_signal": "term",
            "stop_grace_period": "1m30s", "logging": {"driver": "json-file", "options": {"max-size": "1m", "max-file": 3}},
            "extra_hosts": ["a:1.2.3.4", "b=::1", "c:[::2]", "d=host-gateway"], "dns": "192.0.2.1", "dns_search": ["a.example", "b"],
            "dns_opt": ["ndots:1"], "mem_limit": "1g", "mem_reservation": "512m", "memswap_limit": -1, "cpu_quota": 50000,
            "cpu_shares": 512, "cpuset": "0-1", "pids_limit": 100, "shm_size": "1m", "oom_score_adj": -5, "pid": "host", "ipc": "shareable",
            "uts": "private", "cgroup": "host", "security_opt": ["no-new-privileges:true", "seccomp:unconfined", "label:disable"],
            "devices": ["/dev/fuse", "/dev/a:/dev/b:r"], "device_cgroup_rules": ["c 1:3 rwm"], "sysctls": ["net.core.somaxconn=5"],
            "ulimits": {"nofile": 5, "core": {"soft": 0, "hard": -1}}, "expose": [80, "53/udp"], "group_add": ["wheel", 5],
            "platform": "linux/arm64", "pull_policy": "if_not_present", "annotations": {"a": "b"},
            "x-bayplan": {"auto_remove": False, "profile": "strict", "cpuset_mems": "0"}, "x-other": 5, "attach": False,
        }
    )  # fmt: skip
    assert spec.command == ("sh", "-c", "echo a b") and spec.entrypoint == (), "commands"
    assert spec.environment == (("A", "1"),) and spec.labels == (("x", "1"), ("y", "")), "pairs"
    assert (spec.user, spec.working_dir, spec.group_add, spec.cap_add) == ("1000", "/a/b", ("5", "wheel"), ("NET_ADMIN", "SYS_TIME"))
    assert spec.restart == Restart("on-failure", 3) and spec.stop_grace_period == 90 * 10**9 and spec.stop_signal == "SIGTERM"
    assert spec.healthcheck == Healthcheck(("CMD-SHELL", "true"), interval=60 * 10**9, retries=5)
    assert spec.logging == Logging("json-file", (("max-file", "3"), ("max-size", "1m")))
    assert spec.extra_hosts == (("a", "1.2.3.4"), ("b", "::1"), ("c", "::2"), ("d", "host-gateway"))
    limits = spec.limits
    assert (limits.memory, limits.memory_swap, limits.cpus, limits.cpuset_mems) == (1 << 30, -1, 5 * 10**8, "0"), "limits"
    assert spec.no_new_privileges and spec.seccomp == "unconfined" and spec.profile == "strict" and spec.ipc == "private"
    assert spec.ulimits == (Ulimit("core", 0, -1), Ulimit("nofile", 5, 5)) and spec.expose == ("53/udp", "80/tcp")
    assert spec.devices[0].target == "/dev/b" and spec.devices[1] == ("/dev/fuse", "/dev/fuse", "rwm")
    assert parse_service("web", service_document(spec), RECORDED) == spec, "and the record says it all"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(False, "no"), ("no", "no"), ("always", "always"), ("unless-stopped", "unless-stopped"), ("on-failure", "on-failure")],
)
def test_restart_policies(policy: Any, expected: str) -> None:
    assert one({"restart": policy}).restart.name == expected, "false is YAML 1.1's no"


def test_deploy_says_the_same_as_the_direct_keys() -> None:
    deploy = {"resources": {"limits": {"cpus": "0.5", "memory": "64m", "pids": 5}, "reservations": {"memory": "32m"}}, "replicas": 1}
    direct = {"cpus": 0.5, "mem_limit": "64m", "pids_limit": 5, "mem_reservation": "32m"}
    assert one({"deploy": deploy}).limits == one(direct).limits, "two spellings of one limit"
    assert one({"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 2}}}).restart == Restart("on-failure", 2)
    with pytest.raises(Invalid, match="disagrees"):
        one({"deploy": deploy, "mem_limit": "1g"})


def test_secrets_and_configs_become_files_whose_content_is_never_shown() -> None:
    carried = {"./s": base64.b64encode(b"hush").decode(), "./c": base64.b64encode(b"conf").decode()}
    spec = one(
        {
            "secrets": ["s", {"source": "s", "target": "/etc/s", "uid": "5", "mode": "0400"}],
            "configs": [{"source": "c", "target": "/etc/c"}],
        },
        secrets={"s": {"file": "./s"}},
        configs={"c": {"file": "./c"}},
        **{"x-bayplan": {"files": carried}},
    )
    assert [(each.target, each.mode, each.uid) for each in spec.files] == [
        ("/etc/c", 0o444, 0), ("/etc/s", 0o400, 5), ("/run/secrets/s", 0o444, 0),
    ], "targets, permissions, owners"  # fmt: skip
    assert carried["./s"] not in repr(spec), "a secret's repr is ***"
    document = service_document(spec)
    assert carried["./s"] not in str(document) and carried["./c"] not in str(document), "the record holds digests only"
    assert parse_service("web", document, RECORDED) == spec._replace(files=tuple(each._replace(content="") for each in spec.files))


def test_env_files_are_under_the_services_own_variables() -> None:
    files = {"a.env": base64.b64encode(b"A=1\nB=2\n").decode()}
    spec = one({"env_file": ["a.env", {"path": "b.env", "required": False}], "environment": {"B": 3}}, **{"x-bayplan": {"files": files}})
    assert spec.environment == (("A", "1"), ("B", "3")), "files first"


def test_only_active_profiles_count() -> None:
    document: dict[str, Any] = {"name": "p1", "services": {"a": {"image": "x"}, "b": {"image": "x", "profiles": ["dev"]}}}
    assert len(parse_declaration(document).containers) == 1, "a service with a profile is off"
    assert len(parse_declaration({**document, "x-bayplan": {"profiles": ["dev"]}}).containers) == 2, "unless its profile is on"
    assert len(parse_declaration({**document, "x-bayplan": {"state": "absent"}}).containers) == 2, "taking away concerns all"


def test_an_absent_project_keeps_volumes_unless_asked() -> None:
    document: dict[str, Any] = {"name": "p1", "services": {"a": {"image": "x", "volumes": ["v:/v"]}}, "volumes": {"v": None}}
    gone = parse_declaration({**document, "x-bayplan": {"state": "absent"}})
    assert [each.state for each in gone.containers + gone.networks] == ["absent", "absent"] and not gone.volumes, "volumes stay"
    gone = parse_declaration({**document, "x-bayplan": {"state": "absent", "remove_volumes": True}})
    assert [each.state for each in gone.volumes] == ["absent"], "unless asked for"


def test_states_that_need_only_a_name() -> None:
    found = parse_declaration({"services": {name: {"x-bayplan": {"state": name}} for name in ("absent", "stopped", "started")}})
    assert [(each.state, each.known, each.spec.image) for each in found.containers] == [
        ("absent", False, ""), ("stopped", False, ""), ("started", False, ""),
    ], "the record's declaration stays"  # fmt: skip


def test_images_networks_and_volumes_by_themselves() -> None:
    found = parse_declaration(
        {
            "networks": {"net": {"ipam": {"config": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1", "ip_range": "10.9.0.128/25"}]}}},
            "volumes": {
                "nfs": {"driver_opts": {"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}},
                "old": {"x-bayplan": {"state": "absent"}},
            },
            "x-bayplan": {"images": {"nginx:1": {"pull": "always", "tags": ["mine:1"]}, "old:1": {"state": "absent", "force": True}},
                          "wait": True, "wait_timeout": 5},
        }
    )  # fmt: skip
    assert found.networks[0].spec.subnet == "10.9.0.0/24" and found.networks[0].spec.ip_range == "10.9.0.128/25"
    assert [each.state for each in found.volumes] == ["present", "absent"] and found.volumes[0].spec.options[1] == ("o", "addr=10.0.0.1")
    assert [each.state for each in found.images] == ["present", "absent"] and found.wait_timeout == 5 * 10**9


BAD = [
    ({"imag": "x"}, "services.web: unknown key 'imag'; did you mean 'image'"),
    ({"ports": ["8080:http"]}, "services.web.ports[0]"),
    ({"ports": ["1-3:1-2"]}, "differ in length"),
    ({"ports": ["70000:1"]}, "services.web.ports[0]"),
    ({"ports": ["80:1", "80:2"]}, "published for two ports"),
    ({"ports": ["1.2.3:80:80"]}, "services.web.ports[0]"),
    ({"ports": ["80:80"], "network_mode": "host"}, "ports cannot be published"),
    ({"ports": "80:80"}, "a list was expected"),
    ({"ports": [{"published": "80"}]}, "target"),
    ({"volumes": ["~/x:/x"]}, "nobody's home"),
    ({"volumes": ["./x:/x"]}, "project_directory"),
    ({"volumes": ["aa:/x", "bb:/x/"]}, "two mounts have the target /x"),
    ({"volumes": ["../x:y"]}, "absolute path below /"),
    ({"volumes": ["data:/"]}, "absolute path below /"),
    ({"volumes": ["data:/x:wrong"]}, "'wrong' is not an option"),
    ({"volumes": [{"type": "image", "source": "x", "target": "/x"}]}, "one of bind, volume, tmpfs"),
    ({"volumes": [{"type": "volume", "source": "../x", "target": "/x"}]}, "a name of at least two"),
    ({"volumes": [{"type": "volume", "source": "ab", "target": "/x", "volume": {"subpath": "../x"}}]}, "without '.' and '..'"),
    ({"environment": {"A": [1]}}, "services.web.environment.A"),
    ({"environment": ["=x"]}, "neither empty"),
    ({"environment": {"A": "a\0b"}}, "null character"),
    ({"hostname": "a\nb"}, "a host name"),
    ({"hostname": "x" * 65}, "64 characters"),
    ({"extra_hosts": ["evil name=1.2.3.4"]}, "a host name"),
    ({"extra_hosts": ["a=1.2.3.4 b"]}, "an IP address"),
    ({"extra_hosts": {"a": "1.2.3.4\n6.6.6.6 bank"}}, "an IP address"),
    ({"networks": {"net": {"aliases": ["a b"]}}}, "a host name"),
    ({"networks": {"net": {"ipv4_address": "1.2.3"}}}, "an IPv4 address"),
    ({"networks": ["net"], "network_mode": "host"}, "keep one of them"),
    ({"networks": ["host"]}, "network_mode: host"),
    ({"network_mode": "weird"}, "container:NAME"),
    ({"dns_opt": ["a\nnameserver 6.6.6.6"]}, "single line"),
    ({"restart": "sometimes"}, "one of no, always"),
    ({"restart": True}, "a string was expected"),
    ({"restart": "always:3"}, "on-failure:N"),
    ({"restart": "always", "x-bayplan": {"auto_remove": True}}, "exclude each other"),
    ({"healthcheck": {"test": ["true"]}}, "[CMD, program"),
    ({"healthcheck": {"interval": 5}}, "with its unit"),
    ({"stop_signal": "SIGNOTHING"}, "a signal such as"),
    ({"logging": {"driver": "json-file", "options": {"max_size": "1m"}}}, "did you mean 'max-size'"),
    ({"logging": {"driver": "gelf"}}, "one of json-file"),
    ({"ulimits": {"nofiles": 5}}, "not a limit of the kernel"),
    ({"ulimits": {"nofile": {"soft": 5, "hard": 4}}}, "above the hard one"),
    ({"sysctls": {"../../x": 1}}, "not a sysctl's name"),
    ({"devices": ["vendor.com/gpu="]}, "a CDI device such as"),
    ({"devices": ["vendor.com/gpu=0", {"source": "vendor.com/gpu=0"}]}, "two devices have the target"),
    ({"devices": [{"source": "vendor.com/gpu=0", "target": "/dev/x"}]}, "the vendor's file says that"),
    ({"devices": ["dev/x"]}, "a device such as"),
    ({"device_cgroup_rules": ["c 1:3 x"]}, "is not a rule"),
    ({"cap_add": ["a b"]}, "a capability such as"),
    ({"security_opt": ["apparmor=mine"]}, "is not supported"),
    ({"build": "."}, "images are not built here yet"),
    ({"scale": 2}, "one container per service"),
    ({"deploy": {"replicas": 3}}, "one container per service"),
    ({"secrets": ["nobody"]}, "is not declared"),
    ({"configs": [{"target": "/x"}]}, "source"),
    ({"image": "UPPER"}, "services.web.image"),
    ({"image": "../x"}, "services.web.image"),
    ({"command": "sh -c 'x"}, "splitting it into words"),
    ({"mem_limit": "lots"}, "a size such as"),
    ({"memswap_limit": "1m", "mem_limit": "2m"}, "cannot be under mem_limit"),
    ({"read_only": "maybe"}, "true or false"),
    ({"oom_score_adj": 2000}, "-1000 to 1000"),
    ({"env_file": "x"}, "was not carried"),
    ({"extends": "x"}, "resolved where"),
    ({"x-bayplan": {"stat": "started"}}, "did you mean 'state'"),
    ({"x-bayplan": {"ignore": ["labls"]}}, "did you mean 'labels'"),
    ({"x-bayplan": {"project": "theirs", "state": "gone"}}, "one of present"),
    ({"tmpfs": ["/run:evil=1"]}, "not an option of a tmpfs"),
    ({"working_dir": "relative"}, "an absolute path"),
    ({"pull_policy": "build"}, "not built here"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "complaint"), BAD, ids=[complaint for _, complaint in BAD])
def test_what_is_wrong_is_refused_with_its_place_and_what_was_expected(service: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid) as caught:
        one(service)
    assert complaint in str(caught.value) and "services.web" in str(caught.value), "place and expectation are named"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"servces": {}}, "did you mean 'services'"),
        ({"services": []}, "services: a mapping was expected"),
        ({"services": {"web": None}}, "image is missing"),
        ({"services": {"w": {"image": "x"}}}, "at least two"),
        ({"services": {"-x": {"image": "x"}}}, "a name of"),
        ({"services": {"a" * 64: {"image": "x"}}}, "a name of"),
        ({"services": {1: {"image": "x"}}}, "is not a string; quote it"),
        ({"services": {"web": {"image": "x", "container_name": "other"}}}, "without a project"),
        ({"name": "Upper", "services": {}}, "a project name"),
        ({"name": "app", "services": {"web": {"image": "x", "networks": ["no"]}}}, "network 'no' is not declared"),
        ({"name": "app", "services": {"web": {"image": "x", "volumes": ["no:/x"]}}}, "volume 'no' is not declared"),
        ({"name": "app", "services": {"web": {"image": "x", "depends_on": ["no"]}}}, "service 'no' is not declared"),
        ({"name": "app", "services": {key: {"image": "x", "container_name": "cc"} for key in "ab"}}, "as well"),
        ({"networks": {"host": {}}}, "built in"),
        ({"networks": {"net": {"driver": "macvlan"}}}, "the driver bridge"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.1/24"}]}}}}, "a subnet such as"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}]}}}}, "not usable"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.0"}]}}}}, "not usable"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0"}]}}}}, "an address in"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.0/16"}]}}}}, "not usable"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/24", "ip_range": "fd00::/64"}]}}}}, "not usable"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "127.0.0.0/24"}]}}}}, "reserved"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/31"}]}}}}, "no room"),
        ({"networks": {"net": {"ipam": {"config": [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.1.0/24"}]}}}}, "one IPv4"),
        ({"networks": {"net": {"external": True, "labels": {"a": "b"}}}}, "it is external"),
        ({"volumes": {"vol": {"driver": "rexray"}}}, "one of local"),
        ({"volumes": {"vol": {"driver_opts": {"size": "1"}}}}, "unknown key"),
        ({"volumes": {"..": {}}}, "a name of"),
        ({"secrets": {"s": {"external": True}}}, "no secrets are kept"),
        ({"secrets": {"s": {"content": "x"}}}, "one of file and environment"),
        ({"secrets": {"s": {"file": "./no"}}}, "was not carried"),
        ({"include": ["x"]}, "resolved where"),
        ({"services": {"web": {"image": "x", "ports": [1342]}}, "x-bayplan": {"yaml11": True}}, "quote it"),
        ({"x-bayplan": {"project_directory": "relative"}}, "an absolute path"),
        ({"x-bayplan": {"images": {"BAD REF": {}}}}, "x-bayplan.images"),
    ],
)
def test_a_wrong_document_is_refused_with_its_place(document: dict[Any, Any], complaint: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_declaration(document)
    assert complaint in str(caught.value), "place and expectation are named"


def test_every_documented_key_is_known() -> None:
    assert {"image", "env_file", "x-bayplan", "build", "deploy"} <= COMPOSE_KEYS, "known, if only to be refused in words"
