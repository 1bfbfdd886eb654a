"""A container's place on networks: its leases and ports in the records, its links and published ports in the kernel."""

from __future__ import annotations

import os

from bayplan.engine import files, networks, publications
from bayplan.engine.state import State
from bayplan.errors import Conflict, Invalid
from bayplan.model.container import Container, Endpoint, Port
from bayplan.model.late import late
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import addresses
from bayplan.store import records, status
from bayplan.store.records import EndpointRow, NetworkRow, PortRow
from bayplan.store.status import Started

if TYPE_CHECKING:
    from bayplan.kernel import firewall, links, namesockets, ports
else:
    firewall = late("bayplan.kernel.firewall")
    links = late("bayplan.kernel.links")
    namesockets = late("bayplan.kernel.namesockets")
    ports = late("bayplan.kernel.ports")

ATTEMPTS = 100


class Held(NamedTuple):
    """What a monitor holds for a container: sockets that keep published ports taken, those on ::1 that it relays to
    (address, port), and those in the container's namespace on which it answers names."""

    fds: tuple[int, ...] = ()
    relays: tuple[tuple[int, str, int], ...] = ()
    dns_udp: tuple[int, ...] = ()
    dns_tcp: tuple[int, ...] = ()


def wanted(spec: Container) -> tuple[Endpoint, ...]:
    """The networks that the container is on: those declared, else the default one where its mode is bridge."""
    if spec.network_mode != "bridge":
        return ()
    return spec.networks or (Endpoint(files.DEFAULT_NETWORK),)


def prepare(state: State, spec: Container) -> None:
    """Make sure that the default network is there, if the container is to be on it; raises NotFound for one that is not."""
    for endpoint in wanted(spec):
        if endpoint.network == files.DEFAULT_NETWORK:
            networks.default(state)
        else:
            networks.find(state, endpoint.network)


def claim(state: State, container_id: str, spec: Container) -> None:
    """Record addresses and ports for the container, inside the caller's transaction. Raises Conflict, NotFound, Invalid."""
    for position, endpoint in enumerate(wanted(spec)):
        claim_address(state, container_id, spec, endpoint, position)
    claim_ports(state, container_id, spec)


def claim_drift(state: State, container_id: str, spec: Container) -> tuple[str, ...]:
    """Where what the records have leased to the container is not what it declares: a change of either was killed in between."""
    leases = records.endpoints(state.records, container=container_id)
    joined = {records.network_by_id(state.records, lease.network).name for lease in leases}
    asked = {each.network for each in wanted(spec)}
    claimed = {(row.protocol, row.host_ip, row.port, row.target) for row in records.ports(state.records, container=container_id)}
    declared = {(port.protocol, port.host_ip, port.published, port.target) for port in spec.ports if port.published}
    chosen = {(port.protocol, port.host_ip, port.target) for port in spec.ports if not port.published}
    stray = {each for each in claimed - declared if (each[0], each[1], each[3]) not in chosen}
    return (
        *(f"network {name} is not joined" for name in sorted(asked - joined)),
        *(f"network {name} is still joined" for name in sorted(joined - asked)),
        *(f"port {port}/{protocol} is not claimed" for protocol, _, port, _ in sorted(declared - claimed)),
        *(f"port {port}/{protocol} is still claimed" for protocol, _, port, _ in sorted(stray)),
    )


def claim_ports(state: State, container_id: str, spec: Container, *, keep: tuple[PortRow, ...] = ()) -> None:
    """Record the container's ports; one without a number of its own keeps the number that it has in `keep`."""
    chosen = {(row.target, row.protocol, row.host_ip): row.port for row in keep}
    for port in spec.ports:
        _check_served(state, container_id, port)
        number = port.published or chosen.get((port.target, port.protocol, port.host_ip), 0)
        records.put_port(state.records, _claimed_port(state, container_id, port._replace(published=number)))


def claim_address(state: State, container_id: str, spec: Container, endpoint: Endpoint, position: int) -> EndpointRow:
    network = networks.find(state, endpoint.network)
    there = records.endpoints(state.records, network=network.id)
    ip_range = networks.specification(network).ip_range
    ipv4 = addresses.lease(
        network.subnet, [each.ipv4 for each in there], gateway=network.gateway, wanted=endpoint.ipv4_address, ip_range=ip_range
    )
    ipv6 = None
    if network.subnet6:
        taken6 = [each.ipv6 for each in there if each.ipv6]
        ipv6 = addresses.lease(network.subnet6, taken6, gateway=network.gateway6, wanted=endpoint.ipv6_address)
    elif endpoint.ipv6_address:
        raise Invalid(f"attaching {spec.name} to {network.name}: it asks for {endpoint.ipv6_address}, and the network has no IPv6")
    mac = endpoint.mac_address or addresses.mac_of(ipv4)
    row = EndpointRow(container_id, network.id, position, ipv4, ipv6, mac, names_on(spec, container_id, endpoint))
    records.put_endpoint(state.records, row)
    return row


def names_on(spec: Container, container_id: str, endpoint: Endpoint) -> tuple[str, ...]:
    """What the container answers to on a network: its name, its short id, its aliases."""
    return tuple(dict.fromkeys((spec.name, *endpoint.aliases, container_id[:12])))


def _check_served(state: State, container_id: str, port: Port) -> None:
    """Refuse an IPv6 address of the host where the container has none to lead it to."""
    if ":" not in port.host_ip:
        return
    lease = publications.reached_by(state, records.endpoints(state.records, container=container_id))
    if lease is None or not lease.ipv6:
        raise Invalid(f"publishing [{port.host_ip}]:{port.published}: the container's first network has no IPv6; enable_ipv6 on it")


def _claimed_port(state: State, container_id: str, port: Port) -> PortRow:
    if port.published:
        return PortRow(port.protocol, port.host_ip, port.published, port.target, container_id)
    taken = {row.port for row in records.ports(state.records) if row.protocol == port.protocol}
    address = "::" if ":" in port.host_ip else "0.0.0.0"
    for _ in range(ATTEMPTS):
        (free,) = ports.reserve([firewall.Publication(port.protocol, port.host_ip, 0, address, port.target)])
        ports.release([free])
        if free.publication.host_port not in taken:
            return PortRow(port.protocol, port.host_ip, free.publication.host_port, port.target, container_id)
    raise Conflict(f"publishing port {port.target}/{port.protocol}: the kernel gave no port that is not taken already")


def attach(state: State, container_id: str, *, netns: int) -> tuple[EndpointRow, ...]:
    """Give the running container its interfaces. `netns` is a descriptor of its network namespace. Raises Kernel."""
    leases = records.endpoints(state.records, container=container_id)
    attachments = [attachment(state, lease) for lease in leases]
    if attachments:
        links.attach(attachments, netns=netns)
    else:
        links.raise_loopback(netns=netns)
    return leases


def attachment(state: State, lease: EndpointRow) -> links.Attachment:
    """The link that a lease asks for; the network is made where the kernel does not have it."""
    networks.make_sure(state, records.network_by_id(state.records, lease.network))
    return attachment_of(state, lease)


def attachment_of(state: State, lease: EndpointRow) -> links.Attachment:
    network = records.network_by_id(state.records, lease.network)
    spec = networks.specification(network)
    prefix, prefix6 = network.subnet.partition("/")[2], network.subnet6.partition("/")[2]
    return links.Attachment(
        bridge=network.bridge,
        host_name=addresses.link_name(state.id, lease.ipv4),
        container_name=f"eth{lease.position}",
        mac=lease.mac,
        ipv4=f"{lease.ipv4}/{prefix}",
        ipv6=f"{lease.ipv6}/{prefix6}" if lease.ipv6 else "",
        gateway="" if spec.internal else network.gateway,
        gateway6="" if spec.internal else network.gateway6,
        mtu=network.mtu,
    )


def publish(state: State, container_id: str, leases: tuple[EndpointRow, ...]) -> Held:
    """Lead the container's ports to it, and hold them against others. Raises Conflict where another process has one."""
    wanted_ports = publications.of(state, container_id, leases)
    if not wanted_ports:
        return Held()
    reserved = ports.reserve(wanted_ports)
    try:
        firewall.publish(state.id, wanted_ports)
    except BaseException:
        ports.release(reserved)
        raise
    return Held(
        tuple(each.held for each in reserved if each.held >= 0),
        tuple((each.relay, each.publication.address, each.publication.port) for each in reserved if each.relay >= 0),
    )


def detach(state: State, container_id: str) -> None:
    """Take an ended container's published ports out of the kernel, and its names out of its networks'.

    Its links go with its namespace, soon: deleting one takes the kernel 17 ms that nobody should wait for.
    """
    leases = records.endpoints(state.records, container=container_id)
    gone = publications.of(state, container_id, leases)
    if gone:
        firewall.unpublish(state.id, gone)
    leave(state, leases)


def join(state: State, leases: tuple[EndpointRow, ...], run: Started) -> None:
    """This run of the container answers to its names now."""
    for lease in leases:
        files.join(state, records.network_by_id(state.records, lease.network), lease, run)


def leave(state: State, leases: tuple[EndpointRow, ...]) -> None:
    for lease in leases:
        files.leave(state, records.network_by_id(state.records, lease.network), lease)


def internal_only(state: State, leases: tuple[EndpointRow, ...]) -> bool:
    """Whether nothing of the container may leave: all of its networks are internal."""
    return bool(leases) and all(_internal(records.network_by_id(state.records, lease.network)) for lease in leases)


def _internal(network: NetworkRow) -> bool:
    return networks.specification(network).internal


def gateway(state: State, leases: tuple[EndpointRow, ...]) -> str:
    """The host's address as the container sees it: what `host-gateway` stands for."""
    lease = publications.reached_by(state, leases)
    return records.network_by_id(state.records, lease.network).gateway if lease else "127.0.0.1"


def answer_names(held: Held, *, netns: int) -> Held:
    """Open what the monitor answers names on, inside the container's namespace."""
    udp, tcp = namesockets.listen(netns=netns)
    return held._replace(dns_udp=(udp,), dns_tcp=(tcp,))


def republish(state: State, container_id: str) -> None:
    """Lead the container's ports to the address that it has now."""
    leases = records.endpoints(state.records, container=container_id)
    firewall.publish(state.id, publications.of(state, container_id, leases))


def reconnect_all(state: State, network: NetworkRow) -> None:
    """Give running containers the links that they have lost with the network's bridge."""
    boot = status.boot_id()
    for lease in records.endpoints(state.records, network=network.id):
        started = status.read_started(state.root.container(lease.container))
        if started and status.process_alive(started, boot):
            reconnect(state, lease, started.pid)


def reconnect(state: State, lease: EndpointRow, pid: int) -> None:
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        links.attach([attachment(state, lease)], netns=netns)
    finally:
        os.close(netns)
