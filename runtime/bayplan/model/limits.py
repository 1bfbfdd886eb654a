"""What bounds a service: memory, CPUs, processes; directly, or under `deploy.resources`."""

from __future__ import annotations

from bayplan.model import units
from bayplan.model.container import Limits, Restart
from bayplan.model.node import Node
from bayplan.model.regular import fullmatch
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KEYS = (
    "mem_limit", "mem_reservation", "memswap_limit", "cpus", "cpu_shares", "cpu_quota", "cpu_period", "cpuset", "pids_limit",
)  # fmt: skip
_DEPLOY = (
    "resources", "replicas", "mode", "restart_policy", "labels", "endpoint_mode", "placement", "update_config", "rollback_config",
)  # fmt: skip
_CPUSET = r"(?a)\d{1,5}(?:-\d{1,5})?(?:,\d{1,5}(?:-\d{1,5})?)*"


def parse_limits(members: Mapping[str, Node], cpuset_mems: str) -> Limits:
    """All limits of a service's members, those of `deploy` included; Invalid where the two disagree."""
    direct = Limits(
        memory=_size(members, "mem_limit"),
        memory_reservation=_size(members, "mem_reservation"),
        memory_swap=_swap(members.get("memswap_limit")),
        cpus=_cpus(members),
        cpu_shares=members["cpu_shares"].integer(0, 262144) if "cpu_shares" in members else 0,
        cpuset=cpuset(members["cpuset"]) if "cpuset" in members else "",
        cpuset_mems=cpuset_mems,
        pids=_pids(members.get("pids_limit")),
    )
    limits = _merged(members["deploy"], direct) if "deploy" in members else direct
    if limits.memory_swap > 0 and limits.memory_swap < limits.memory:
        raise members["memswap_limit"].wrong("it counts memory and swap together, so it cannot be under mem_limit")
    return limits


def limits_document(limits: Limits) -> dict[str, Any]:
    """The direct keys; parse_limits reads them back (cpuset_mems is not Compose's, so not among them)."""
    found: dict[str, Any] = {
        "mem_limit": limits.memory,
        "mem_reservation": limits.memory_reservation,
        "memswap_limit": limits.memory_swap,
        "cpus": units.cpus_text(limits.cpus) if limits.cpus else 0,
        "cpu_shares": limits.cpu_shares,
        "cpuset": limits.cpuset,
        "pids_limit": limits.pids,
    }
    return {key: value for key, value in found.items() if value}


def cpuset(node: Node) -> str:
    """A list such as 0-2,4 (cpuset(7))."""
    text = node.word().replace(" ", "") if node.value != "" else ""
    if text and not fullmatch(_CPUSET, text):
        raise node.expected("a list of CPUs such as 0-2,4")
    return text


def _size(members: Mapping[str, Node], key: str) -> int:
    return units.size(members[key]) if key in members else 0


def _swap(node: Node | None) -> int:
    return 0 if node is None else -1 if node.value in (-1, "-1") else units.size(node)


def _pids(node: Node | None) -> int:
    """-1 is Compose's word for no limit."""
    return 0 if node is None else max(0, node.integer(-1, 4_194_304))


def _cpus(members: Mapping[str, Node]) -> int:
    if "cpu_quota" not in members:
        return units.cpus(members["cpus"]) if "cpus" in members else 0
    if "cpus" in members:
        raise members["cpu_quota"].wrong("cpus says the same; keep one of them")
    quota = _microseconds(members["cpu_quota"], low=-1)
    period = _microseconds(members["cpu_period"], low=1000) if "cpu_period" in members else 100_000
    return max(0, quota) * units.SECOND // period


def _microseconds(node: Node, *, low: int) -> int:
    if isinstance(node.value, str) and not node.value.lstrip("-").isdecimal():
        return units.duration(node) // 1000
    return node.integer(low, 10**9)


def _merged(node: Node, direct: Limits) -> Limits:
    members = node.members(_DEPLOY)
    if "replicas" in members and members["replicas"].integer() != 1:
        raise members["replicas"].wrong("one container per service is what is supported; declare a service for each")
    if "mode" in members:
        members["mode"].choice("replicated")
    resources = members["resources"].members(("limits", "reservations")) if "resources" in members else {}
    found = {**_limits(resources.get("limits")), **_reservations(resources.get("reservations"))}
    for field, (value, place) in found.items():
        if getattr(direct, field) not in (0, value):
            raise place.wrong("it disagrees with the service's own key for the same limit; keep one of them")
    values: dict[str, Any] = {field: value for field, (value, _) in found.items()}
    return direct._replace(**values)


def _limits(node: Node | None) -> dict[str, tuple[int, Node]]:
    members = node.members(("cpus", "memory", "pids")) if node else {}
    readers = {"cpus": ("cpus", units.cpus), "memory": ("memory", units.size), "pids": ("pids", _pids)}
    return {readers[key][0]: (readers[key][1](each), each) for key, each in members.items()}


def _reservations(node: Node | None) -> dict[str, tuple[int, Node]]:
    """A reservation of CPUs is a matter of a scheduler of many hosts; of memory, it is the kernel's soft limit."""
    members = node.members(("cpus", "memory", "devices", "generic_resources")) if node else {}
    for key in ("devices", "generic_resources"):
        if key in members:
            raise members[key].wrong("reserving devices is not supported; name them under devices")
    return {"memory_reservation": (units.size(members["memory"]), members["memory"])} if "memory" in members else {}


def parse_deploy_restart(node: Node) -> Restart | None:
    """`deploy.restart_policy` as the restart policy that means the same, None where it is absent."""
    members = node.members(_DEPLOY)
    if "restart_policy" not in members:
        return None
    policy = members["restart_policy"].members(("condition", "max_attempts", "delay", "window"))
    condition = policy["condition"].choice("none", "on-failure", "any") if "condition" in policy else "any"
    attempts = policy["max_attempts"].integer(0, 2**31) if "max_attempts" in policy else 0
    if condition == "on-failure":
        return Restart("on-failure", attempts)
    return Restart("no" if condition == "none" else "always")
