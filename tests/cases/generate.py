"""Hypothesis strategies for valid Compose mappings from a small world, every option varied: for pure and for real hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

IMAGES = ("localhost:5000/one:1", "localhost:5000/two:1", "localhost:5000/three:1")
PROJECT = "world"
SERVICES = ("web", "db", "job", "side")
NETWORKS = ("front", "back", "default")
VOLUMES = ("data", "logs", "cache")
SECRETS = ("password", "token")
Mapping = dict[str, Any]


def _optional(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[Mapping]:
    return st.fixed_dictionaries({}, optional=options)


def _some(values: Sequence[str], most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=most)


_PAIRS = st.dictionaries(st.sampled_from(["A", "B", "com.example.key"]), st.sampled_from(["", "1", "two words", "a\nb", "ü"]), max_size=2)
_VARIABLES = st.dictionaries(st.sampled_from(["A", "B", "LANG"]), st.sampled_from(["", "1", "two words", "$x"]), max_size=2)


def _limits() -> Mapping:
    return {
        "mem_limit": st.sampled_from(["64m", "128m"]),
        "mem_reservation": st.sampled_from(["16m", "32m"]),
        "cpus": st.sampled_from(["0.5", 1, "1.5"]),
        "cpu_shares": st.sampled_from([512, 2048]),
        "cpuset": st.sampled_from(["0", "0-1"]),
        "pids_limit": st.sampled_from([50, 100]),
    }


def _in_place() -> Mapping:
    return {
        "restart": st.sampled_from(["no", "always", "on-failure:3", "unless-stopped"]),
        "labels": _PAIRS,
        "annotations": _PAIRS,
        "stop_signal": st.sampled_from(["SIGTERM", "KILL", "15"]),
        "stop_grace_period": st.sampled_from(["1s", "500ms"]),
        "healthcheck": st.sampled_from(
            [{"test": "true", "interval": "1s"}, {"disable": True}, {"test": ["CMD", "true"], "interval": "2s", "retries": 2}]
        ),
        "logging": st.sampled_from([{"driver": "json-file", "options": {"max-size": "1m"}}, {"driver": "none"}]),
        "expose": st.sampled_from([["80"], ["53/udp", 80]]),
    }


def _replacing() -> Mapping:
    return {
        "entrypoint": st.sampled_from([[], ["/bin/sleep"]]),
        "environment": _VARIABLES,
        "user": st.sampled_from(["0", "1000:1000"]),
        "group_add": st.just(["10"]),
        "working_dir": st.sampled_from(["/", "/tmp"]),
        "hostname": st.sampled_from(["one", "two"]),
        "cap_add": _some(["NET_ADMIN", "CAP_SYS_TIME"]),
        "cap_drop": _some(["MKNOD", "KILL"]),
        "read_only": st.booleans(),
        "init": st.booleans(),
        "tmpfs": st.sampled_from(["/run", ["/run:size=1m,mode=1777"]]),
        "devices": st.just(["/dev/null:/dev/nothing:rw"]),
        "sysctls": st.just({"net.core.somaxconn": 128}),
        "ulimits": st.sampled_from([{"nofile": 512}, {"core": {"soft": 0, "hard": 0}}]),
        "shm_size": st.just("8m"),
        "oom_score_adj": st.just(100),
        "extra_hosts": st.sampled_from([["a=10.0.0.1"], {"b": "host-gateway"}]),
        "dns": st.just(["192.0.2.1"]),
        "dns_search": st.just("example.org"),
        "dns_opt": st.just(["ndots:2"]),
        "security_opt": st.sampled_from([["no-new-privileges:true"], ["seccomp=unconfined"]]),
        "secrets": _some(SECRETS),
        "volumes": st.lists(st.sampled_from(VOLUMES), unique=True, max_size=2).map(
            lambda names: [f"{name}:/srv/{name}{':ro' if name == 'logs' else ''}" for name in names]
        ),
    }


@st.composite
def _service(draw: st.DrawFn, index: int, images: Sequence[str]) -> Mapping:
    options = draw(_optional(**_limits(), **_in_place(), **_replacing()))
    earlier = SERVICES[:index]
    options.setdefault("stop_grace_period", "100ms")  # a first process does not listen to SIGTERM: sleep is killed at the end of it
    service: Mapping = {"image": draw(st.sampled_from(images)), "command": ["sleep", "1000"], **options}
    if "entrypoint" in options:
        service["command"] = ["sleep", "1000"] if options["entrypoint"] == [] else ["1000"]
    if draw(st.booleans()):
        service["networks"] = draw(_networks())
    if draw(st.booleans()):
        service["ports"] = [f"127.0.0.1:{18000 + index}:80"]
    if earlier and draw(st.booleans()):
        service["depends_on"] = draw(_dependencies(earlier))
    if earlier and "networks" not in service and "ports" not in service and draw(st.integers(0, 5)) == 0:
        service = {key: value for key, value in service.items() if key not in ("hostname", "dns", "extra_hosts", "sysctls")}
        service["network_mode"] = f"service:{earlier[0]}"
    extension = draw(_optional(state=st.sampled_from(["started", "present", "stopped"]), profile=st.sampled_from(["default", "strict"]),
                               recreate=st.sampled_from(["auto", "auto", "never"]), ignore=_some(["labels", "environment", "image"], 2)))
    return {**service, "x-bayplan": extension}


def _networks() -> st.SearchStrategy[Any]:
    options = st.one_of(st.none(), st.fixed_dictionaries({"aliases": _some(["alpha", "beta"])}))
    return st.one_of(_some(NETWORKS), st.dictionaries(st.sampled_from(NETWORKS), options, max_size=3))


def _dependencies(earlier: Sequence[str]) -> st.SearchStrategy[Any]:
    options = st.fixed_dictionaries({"condition": st.sampled_from(["service_started"]), "restart": st.booleans()})
    return st.one_of(_some(earlier), st.dictionaries(st.sampled_from(earlier), options, max_size=2))


@st.composite
def documents(draw: st.DrawFn, images: Sequence[str] = IMAGES, project: str = PROJECT) -> Mapping:
    """One valid mapping for `parse_declaration`: 1 to 4 services of a project, with what they name declared beside them."""
    count = draw(st.integers(1, len(SERVICES)))
    services = {name: draw(_service(index, images)) for index, name in enumerate(SERVICES[:count])}
    needed = {each for service in services.values() for each in service.get("depends_on", ())}
    needed |= {service["network_mode"].removeprefix("service:") for service in services.values() if "network_mode" in service}
    for name in needed:  # who needs what is not to run is refused, which is a case of its own
        services[name]["x-bayplan"].pop("state", None)
    if draw(st.booleans()) and count > 1:
        services = _without(services, draw(st.sampled_from(SERVICES[:count])))
    subnets = {"front": "10.201.1.0/24", "back": "10.201.2.0/24", "default": "10.201.3.0/24"}
    networks = {name: draw(_network(subnet)) for name, subnet in subnets.items()}
    volumes = {name: draw(st.one_of(st.none(), st.fixed_dictionaries({"labels": _PAIRS}))) for name in VOLUMES}
    contents = {f"./{name}": draw(st.sampled_from(["b25l", "dHdv"])) for name in SECRETS}
    extension = {"files": contents, "remove_orphans": draw(st.sampled_from([True, True, False]))}
    return {
        "name": project,
        "services": services,
        "networks": networks,
        "volumes": volumes,
        "secrets": {name: {"file": f"./{name}"} for name in SECRETS},
        "x-bayplan": extension,
    }


def _without(services: Mapping, gone: str) -> Mapping:
    """The other services, those that need `gone` included, without their need."""
    found = {}
    going = {gone, *(name for name, service in services.items() if service.get("network_mode") == f"service:{gone}")}
    for name, service in services.items():
        if name in going:
            continue
        needs = service.get("depends_on", [])
        staying = [each for each in needs if each not in going]
        kept = staying if isinstance(needs, list) else {each: needs[each] for each in staying}
        found[name] = {**service, **({"depends_on": kept} if "depends_on" in service else {})}
    return found or {gone: services[gone]}


def _network(subnet: str) -> st.SearchStrategy[Any]:
    other = subnet.replace("10.201.", "10.202.")
    pools = st.sampled_from([subnet, other]).map(lambda text: {"config": [{"subnet": text}]})
    return st.one_of(st.none(), _optional(labels=_PAIRS, internal=st.booleans(), ipam=pools))
