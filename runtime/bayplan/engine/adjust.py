"""Changing a container in place, its process untouched: limits, ports, networks, and what its monitor goes by."""

from __future__ import annotations

import os

from bayplan.engine import cgroup, containers, endpoints, images, monitor, networks, publications
from bayplan.engine.containers import Record, Run
from bayplan.engine.state import State
from bayplan.errors import NotFound
from bayplan.kernel import firewall, links
from bayplan.model.container import Container, Endpoint
from bayplan.model.network import Network
from bayplan.plan import addresses, bundle
from bayplan.store import records, status
from bayplan.store.records import EndpointRow, NetworkRow, PortRow
from bayplan.supervise import client, launch


def adjust(state: State, record: Record, spec: Container) -> Record:
    """Make `spec`, which differs from the recorded one only in what may change in place, the container's declaration.

    A running container is changed first and recorded last, so that a failure leaves a difference that the next converge sees.
    Raises Kernel, Conflict, NotFound.
    """
    run = containers.run_of(state, record.id)
    if endpoints.wanted(record.spec) != endpoints.wanted(spec):
        _change_networks(state, record, spec, pid=run.pid)
    if record.spec.ports != spec.ports:
        _change_ports(state, record, spec, run)
    if run.pid and record.spec.limits != spec.limits:
        cgroup.update(state, record.id, bundle.resources(spec.limits))
    updated = containers.update(state, record, spec)
    if run.monitored:
        tell_monitor(state, updated)
    return updated


def tell_monitor(state: State, record: Record) -> None:
    """Write the settings that follow from the record, and have the monitor take them."""
    leases = records.endpoints(state.records, container=record.id)
    directory = state.root.container(record.id)
    image = images.config(state, record.image_id)
    launch.write_settings(directory, monitor.settings(state, record, image, leases))
    client.reload(directory)


def _change_ports(state: State, record: Record, spec: Container, run: Run) -> None:
    leases = records.endpoints(state.records, container=record.id)
    before = publications.of(state, record.id, leases)
    rows = records.ports(state.records, container=record.id)
    with records.transaction(state.records):
        records.remove_ports(state.records, record.id)
        endpoints.claim_ports(state, record.id, spec, keep=rows)
    if not run.pid:
        return
    directory = state.root.container(record.id)
    if before:
        firewall.unpublish(state.id, before)
    if not run.monitored:  # nobody to hold sockets: the restart that follows does
        endpoints.republish(state, record.id)
        return
    _let_go(directory)
    try:
        _hand_over(directory, endpoints.publish(state, record.id, leases))
    except BaseException:
        _give_back(state, record.id, rows)
        _hand_over(directory, endpoints.publish(state, record.id, leases))
        raise


def take_ports(state: State, old: Record, new: Record) -> None:
    """Give the old container's published ports, and what the new one declares besides, to the new one, which runs.

    Each port leads to one or to the other at any moment. Raises Conflict and Kernel; then all ports are the old one's.
    """
    rows = records.ports(state.records, container=old.id)
    before = publications.of(state, old.id, records.endpoints(state.records, container=old.id))
    with records.transaction(state.records):
        records.remove_ports(state.records, old.id)
        endpoints.claim_ports(state, new.id, new.spec, keep=rows)
    directory = state.root.container(old.id)
    try:
        _let_go(directory)
        leases = records.endpoints(state.records, container=new.id)
        _hand_over(state.root.container(new.id), endpoints.publish(state, new.id, leases))
    except BaseException:
        _give_back(state, new.id, rows)
        leases = records.endpoints(state.records, container=old.id)
        _hand_over(directory, endpoints.publish(state, old.id, leases))
        raise
    firewall.unpublish(state.id, before)  # those that lead to the new one by now are left alone


def _give_back(state: State, taker: str, rows: tuple[PortRow, ...]) -> None:
    """Record the ports as they were before the container `taker` claimed its own."""
    with records.transaction(state.records):
        records.remove_ports(state.records, taker)
        for row in rows:
            records.put_port(state.records, row)


def _let_go(directory: str) -> None:
    """Have a container's monitor give its ports up; one that is gone holds none."""
    try:
        client.replace_ports(directory, ())
    except NotFound:
        return


def _hand_over(directory: str, held: endpoints.Held) -> None:
    ports = [client.Port(fd) for fd in held.fds] + [client.Port(*relay) for relay in held.relays]
    client.replace_ports(directory, tuple(ports))
    for port in ports:
        os.close(port.descriptor)


def _change_networks(state: State, record: Record, spec: Container, *, pid: int) -> None:
    """Leave what is no longer declared, join what is new; one whose addresses or aliases differ is left and joined."""
    old = {each.network: each for each in endpoints.wanted(record.spec)}
    new = {each.network: each for each in endpoints.wanted(spec)}
    for name, endpoint in old.items():
        if new.get(name) != endpoint:
            disconnect(state, record, name)
    for name, endpoint in new.items():
        if old.get(name) != endpoint:
            disconnect(state, record, name)  # a change that was killed before it was recorded may have joined it
            connect(state, record._replace(spec=spec), endpoint, pid=pid)
    if pid and spec.ports:
        endpoints.republish(state, record.id)


def reclaim(state: State, record: Record) -> None:
    """Bring what is leased to the container in line with its declaration again, under its running process."""
    run = containers.run_of(state, record.id)
    asked = {each.network: each for each in endpoints.wanted(record.spec)}
    joined = {records.network_by_id(state.records, each.network).name for each in records.endpoints(state.records, container=record.id)}
    for name in joined - asked.keys():
        disconnect(state, record, name)
    for name in asked.keys() - joined:
        connect(state, record, asked[name], pid=run.pid)
    if endpoints.claim_drift(state, record.id, record.spec):
        _change_ports(state, record, record.spec, run)
    elif run.pid and record.spec.ports:
        endpoints.republish(state, record.id)
    if run.monitored:
        tell_monitor(state, record)


def connect(state: State, record: Record, endpoint: Endpoint, *, pid: int) -> None:
    """Put the container on a further network, at once where it runs (`pid` is not 0). Raises Conflict, NotFound, Kernel."""
    endpoints.prepare(state, record.spec._replace(networks=(endpoint,)))
    taken = {lease.position for lease in records.endpoints(state.records, container=record.id)}
    position = next(number for number in range(len(taken) + 1) if number not in taken)
    with records.transaction(state.records):
        lease = endpoints.claim_address(state, record.id, record.spec, endpoint, position)
    if pid:
        _attach(state, record, lease, pid)


def _attach(state: State, record: Record, lease: EndpointRow, pid: int) -> None:
    try:
        endpoints.reconnect(state, lease, pid)
    except BaseException:
        with records.transaction(state.records):
            records.remove_endpoint(state.records, record.id, lease.network)
        raise
    run = status.read_started(state.root.container(record.id))
    if run:
        endpoints.join(state, (lease,), run)


def disconnect(state: State, record: Record, network: str) -> None:
    """Take the container off a network, at once where it runs. One that it is not on is no error."""
    row = records.network_named(state.records, network)
    leases = records.endpoints(state.records, container=record.id)
    lease = next((each for each in leases if row and each.network == row.id), None)
    if row is None or lease is None:
        return
    links.detach(addresses.link_name(state.id, lease.ipv4))
    with records.transaction(state.records):
        records.remove_endpoint(state.records, record.id, row.id)
    endpoints.leave(state, (lease,))


def connect_now(state: State, record: Record, endpoint: Endpoint) -> None:
    """`network connect`: join, record it in the declaration, tell the monitor."""
    spec = record.spec._replace(network_mode="bridge", networks=(*endpoints.wanted(record.spec), endpoint))
    adjust(state, record, spec)


def disconnect_now(state: State, record: Record, network: str) -> None:
    spec = record.spec._replace(networks=tuple(each for each in endpoints.wanted(record.spec) if each.network != network))
    adjust(state, record, spec if spec.networks else spec._replace(network_mode="none"))


def replace_network(state: State, old: NetworkRow, spec: Network) -> None:
    """Make a network anew under its name; its containers run on and move over with their aliases and static addresses.

    Raises Conflict and Kernel. Where it cannot be made anew, the old one is made again.
    """
    on_it = [containers.find(state, lease.container) for lease in records.endpoints(state.records, network=old.id)]
    for record in on_it:
        disconnect(state, record, old.name)
    networks.remove(state, old.name)
    try:
        networks.create(state, spec)
    except BaseException:
        networks.create(state, networks.specification(old))
        _join_again(state, on_it, old.name)
        raise
    _join_again(state, on_it, old.name)


def _join_again(state: State, on_it: list[Record], network: str) -> None:
    for record in on_it:
        endpoint = next(each for each in endpoints.wanted(record.spec) if each.network == network)
        run = containers.run_of(state, record.id)
        connect(state, record, endpoint, pid=run.pid)
        if run.pid and record.spec.ports:
            endpoints.republish(state, record.id)
        if run.monitored:
            tell_monitor(state, record)
