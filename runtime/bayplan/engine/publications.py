"""Which ports of the host lead to which container: from the records, in the firewall's terms."""

from __future__ import annotations

from bayplan.engine.state import State
from bayplan.model import jsontext
from bayplan.model.late import late
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import locks, records, status
from bayplan.store.records import EndpointRow

if TYPE_CHECKING:
    from bayplan.kernel import firewall
else:
    firewall = late("bayplan.kernel.firewall")


def of(state: State, container_id: str, leases: tuple[EndpointRow, ...]) -> tuple[firewall.Publication, ...]:
    """The container's ports as the firewall takes them: they lead to its address on the network that `reached_by` names."""
    lease = reached_by(state, leases)
    if lease is None:
        return ()
    found = []
    for port in records.ports(state.records, container=container_id):
        if ":" not in port.host_ip:
            found.append(firewall.Publication(port.protocol, _any(port.host_ip), port.port, lease.ipv4, port.target))
        if lease.ipv6 and (":" in port.host_ip or _any(port.host_ip) == ""):
            found.append(firewall.Publication(port.protocol, _any(port.host_ip), port.port, lease.ipv6, port.target))
    return tuple(found)


def reached_by(state: State, leases: tuple[EndpointRow, ...]) -> EndpointRow | None:
    """The container's first network that is not internal: the bridge of one that is takes nothing from outside."""
    if len(leases) > 1:
        for lease in leases:
            if not jsontext.loads(records.network_by_id(state.records, lease.network).document).get("internal"):
                return lease
    return leases[0] if leases else None


def _any(host_ip: str) -> str:
    return "" if host_ip in ("", "0.0.0.0", "::") else host_ip


def of_running(state: State) -> frozenset[firewall.Publication]:
    """What the firewall should lead to the containers that run, and to those that somebody is just starting."""
    boot = status.boot_id()
    found: set[firewall.Publication] = set()
    for container_id in {row.container for row in records.ports(state.records)}:
        directory = state.root.container(container_id)
        started = status.read_started(directory)
        if (started and status.process_alive(started, boot)) or locks.container_is_held(directory):
            found |= set(of(state, container_id, records.endpoints(state.records, container=container_id)))
    return frozenset(found)
