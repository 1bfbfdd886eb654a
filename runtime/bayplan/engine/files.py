"""What a container gets of the host's in /etc, and what the monitors of a network answer from."""

from __future__ import annotations

import os

from bayplan.engine.state import State
from bayplan.model.container import Container
from bayplan.plan import hostfiles
from bayplan.plan.bundle import hostname
from bayplan.plan.hostfiles import Presence
from bayplan.store import locks, records, status
from bayplan.store.records import EndpointRow, NetworkRow
from bayplan.store.status import Started

DEFAULT_NETWORK = "bridge"
HOSTS_LIMIT = 1 << 20
RESOLV_CONF = "/etc/resolv.conf"
HOST_GATEWAY = "host-gateway"


def write(state: State, container_id: str, spec: Container, leases: tuple[EndpointRow, ...], gateway: str) -> None:
    """Write hosts, hostname and resolv.conf anew: at every start, since addresses and resolvers change."""
    directory = state.root.container(container_id)
    name = hostname(spec, container_id)
    if spec.network_mode == "host":
        _write_in_place(f"{directory}/hosts", _host_text("/etc/hosts") + _extra(spec, "127.0.0.1"))
        _write_in_place(f"{directory}/resolv.conf", _declared_resolvers(spec) or _host_text(RESOLV_CONF))
    else:
        own = [(lease.ipv4, f"{name}.{spec.domainname} {name}" if spec.domainname else name) for lease in leases]
        extra = [(gateway if address == HOST_GATEWAY else address, host) for host, address in spec.extra_hosts]
        neighbours = _neighbours(state, container_id) if _on_default(state, leases) else ()
        _write_in_place(f"{directory}/hosts", hostfiles.hosts(own, extra, neighbours))
        _write_in_place(f"{directory}/resolv.conf", _resolver_text(spec, answered=bool(leases)))
    _write_in_place(f"{directory}/hostname", name + "\n")


def _write_in_place(path: str, text: str) -> None:
    """Over the same inode: a running container has it mounted. Raises BlockingIOError where it holds a lease on it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        data = text.encode("utf-8", "surrogateescape")
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)


def _host_text(path: str) -> str:
    """Raises BlockingIOError where a container holds a lease on the file (fcntl(2), F_SETLEASE): waiting for it takes 45 s."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(fd, HOSTS_LIMIT).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def _extra(spec: Container, gateway: str) -> str:
    pairs = ((gateway if address == HOST_GATEWAY else address, host) for host, address in spec.extra_hosts)
    return "".join(f"{address}\t{host}\n" for address, host in pairs)


def _resolver_text(spec: Container, *, answered: bool) -> str:
    """The monitor answers wherever the container has a network of ours; it asks what `dns` declares, or what the host asks."""
    _, search, options = hostfiles.parse_resolv_conf(_host_text(RESOLV_CONF))
    asked = (hostfiles.RESOLVER,) if answered else ()
    return hostfiles.resolv_conf(asked or spec.dns, spec.dns_search or search, spec.dns_opt or ("ndots:0",) if answered else options)


def _declared_resolvers(spec: Container) -> str:
    if not (spec.dns or spec.dns_search or spec.dns_opt):
        return ""
    servers, search, options = hostfiles.parse_resolv_conf(_host_text(RESOLV_CONF))
    return hostfiles.resolv_conf(spec.dns or servers, spec.dns_search or search, spec.dns_opt or options)


def upstreams(spec: Container) -> tuple[tuple[str, int], ...]:
    """Whom a container's monitor asks what it does not know: addresses and ports, in order."""
    servers = spec.dns or hostfiles.parse_resolv_conf(_host_text(RESOLV_CONF))[0]
    return tuple((server, 53) for server in servers)


def _on_default(state: State, leases: tuple[EndpointRow, ...]) -> bool:
    default = records.network_named(state.records, DEFAULT_NETWORK)
    return default is not None and any(lease.network == default.id for lease in leases)


def _neighbours(state: State, container_id: str) -> tuple[tuple[str, str], ...]:
    default = records.network_named(state.records, DEFAULT_NETWORK)
    if default is None:
        return ()
    leases = _present_leases(state, default, _alive(_presences(state, default)))
    return tuple((lease.ipv4, " ".join(lease.names)) for lease in leases if lease.container != container_id and lease.names)


def join(state: State, network: NetworkRow, lease: EndpointRow, run: Started) -> None:
    """The container answers to its names on the network from now on, as long as this run of it lasts."""
    addresses = [address for address in (lease.ipv4, lease.ipv6) if address]
    _announce(state, network, lease, tuple(Presence(address, lease.names, run.pid, run.pid_start) for address in addresses))


def leave(state: State, network: NetworkRow, lease: EndpointRow) -> None:
    _announce(state, network, lease, ())


def _announce(state: State, network: NetworkRow, lease: EndpointRow, own: tuple[Presence, ...]) -> None:
    """Bring the network's names up to date, and on the default network its containers' /etc/hosts.

    The others' lines stay as they are, so that a start on a network of hundreds costs no more than one on an empty one; whoever reads
    them looks whether that process lives.
    """
    directory = state.root.network(network.id)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with locks.network(directory):
        before = _presences(state, network)
        others = [each for each in before if each.address not in (lease.ipv4, lease.ipv6) and each.names[0] != lease.names[0]]
        status.write_file(state.root.network_names(network.id), hostfiles.names(status.boot_id(), (*others, *own)))
        if network.name == DEFAULT_NETWORK:
            present = _present_leases(state, network, _alive((*others, *own)))
            for each in present:
                _refresh_unless_leased(state, each, present)


def _presences(state: State, network: NetworkRow) -> tuple[Presence, ...]:
    """Who is on the network: as its file of names says, or the records, where there is none of this boot."""
    boot = status.boot_id()
    known = hostfiles.parse_names(_host_text(state.root.network_names(network.id)), boot)
    return _recorded(state, network, boot) if known is None else known


def _recorded(state: State, network: NetworkRow, boot: str) -> tuple[Presence, ...]:
    found = []
    for lease in records.endpoints(state.records, network=network.id):
        run = status.read_started(state.root.container(lease.container))
        if run and status.process_alive(run, boot):
            found += [Presence(address, lease.names, run.pid, run.pid_start) for address in (lease.ipv4, lease.ipv6) if address]
    return tuple(found)


def _alive(presences: tuple[Presence, ...]) -> set[str]:
    """The addresses of those whose process lives."""
    return {each.address for each in presences if status.start_time(each.pid) == each.start}


def _present_leases(state: State, network: NetworkRow, present: set[str]) -> tuple[EndpointRow, ...]:
    return tuple(lease for lease in records.endpoints(state.records, network=network.id) if lease.ipv4 in present)


def _refresh_unless_leased(state: State, lease: EndpointRow, present: tuple[EndpointRow, ...]) -> None:
    """A container that keeps everybody from its own file goes without its neighbours; the others do not wait for it."""
    try:
        _refresh_hosts(state, lease, present)
    except BlockingIOError:
        return


def _refresh_hosts(state: State, lease: EndpointRow, present: tuple[EndpointRow, ...]) -> None:
    path = f"{state.root.container(lease.container)}/hosts"
    text = _host_text(path)
    if text:
        others = [(each.ipv4, " ".join(each.names)) for each in present if each.container != lease.container and each.names]
        renewed = hostfiles.with_block(text, others)
        if renewed != text:
            _write_in_place(path, renewed)
