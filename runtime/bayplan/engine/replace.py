"""Putting a new container in an old one's place, so that never nothing runs.

Where old and new share no writable mount and no static address, the new one is started first; when it is well, the published
ports are led to it at once, and the old one goes. Otherwise the old one stops first: two databases on one volume would corrupt
it. Either way a new one that does not get well is removed, and the old one runs again as it did.
"""

from __future__ import annotations

from bayplan.engine import adjust, containers, endpoints, start, stop, wellness
from bayplan.engine.aside import ASIDE, took_over
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import BayplanError, Unavailable
from bayplan.model.container import Container
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import records
from bayplan.store.records import ContainerRow

if TYPE_CHECKING:
    from collections.abc import Mapping


def replace(
    state: State, old: Record, spec: Container, *, running: bool, timeout: float, auth: Mapping[str, str] | None = None
) -> Record:
    """Make `spec` the container of this name. `running` says whether it is to run; `timeout` seconds bound the wait for its health.

    Raises what making and starting it raises, or Unavailable where it does not get well; then the old one is as it was.
    """
    was_running = containers.run_of(state, old.id).status in containers.RUNNING
    _rename(state, old, old.name + ASIDE)
    try:
        if was_running and running and not overlap(old.spec, spec) and not containers.anonymous_volumes(state, old.id):
            new = _beside(state, old, spec, timeout=timeout, auth=auth)
        else:
            new = _swap(state, old, spec, running=running, was_running=was_running, timeout=timeout, auth=auth)
    except BaseException:
        _rename(state, old, old.name)
        raise
    stop.remove(state, old._replace(name=old.name + ASIDE), force=True, volumes=False)
    return new


def overlap(old: Container, new: Container) -> bool:
    """Whether the two cannot run beside each other. Published ports are no obstacle: they are switched over at once."""
    writable = {mount.source for mount in old.mounts if mount.kind != "tmpfs" and not mount.read_only}
    shared = any(mount.source in writable for mount in new.mounts if mount.kind != "tmpfs")
    static = any(each.ipv4_address or each.ipv6_address or each.mac_address for each in (*old.networks, *new.networks))
    return shared or static or {old.network_mode, new.network_mode} != {"bridge"}


def _beside(state: State, old: Record, spec: Container, *, timeout: float, auth: Mapping[str, str] | None) -> Record:
    """Start the new one beside the old one, and when it is well, lead the old one's ports to it."""
    new = _bring_up(state, spec._replace(ports=()), declared=spec, running=True, timeout=timeout, auth=auth)
    try:
        adjust.take_ports(state, old, new)
    except BaseException:
        stop.remove(state, new, force=True, volumes=True)
        raise
    return new


def recover(state: State, row: ContainerRow) -> None:
    """Bring back, or let go, the container that a killed replacement has left aside."""
    record = containers.record_of(row)._replace(name=row.name)
    name = row.name[: -len(ASIDE)]
    new = records.container_named(state.records, name)
    if new and took_over(state, new):
        stop.remove(state, record, force=True)
        return
    if new:
        stop.remove(state, containers.record_of(new), force=True, volumes=True)
    lent = not records.endpoints(state.records, container=row.id) and not records.ports(state.records, container=row.id)
    with records.transaction(state.records):
        records.set_container_name(state.records, row.id, name)
        if lent:
            endpoints.claim(state, row.id, record.spec._replace(name=name))


def _rename(state: State, record: Record, name: str) -> None:
    with records.transaction(state.records):
        records.set_container_name(state.records, record.id, name)


def _swap(
    state: State, old: Record, spec: Container, *, running: bool, was_running: bool, timeout: float, auth: Mapping[str, str] | None
) -> Record:
    """Stop the old one, lend its ports and addresses to the new one, and give them back if that fails."""
    if was_running:
        stop.stop(state, old, by="replacement")
    ports, leases = records.ports(state.records, container=old.id), records.endpoints(state.records, container=old.id)
    with records.transaction(state.records):
        records.remove_ports(state.records, old.id)
        for lease in leases:
            records.remove_endpoint(state.records, old.id, lease.network)
    try:
        carried = containers.anonymous_volumes(state, old.id)
        return _bring_up(state, spec, running=running, timeout=timeout, auth=auth, carried=carried)
    except BaseException:
        with records.transaction(state.records):
            for port in ports:
                records.put_port(state.records, port)
            for lease in leases:
                records.put_endpoint(state.records, lease)
        if was_running:
            start.start(state, old)
        raise


def _bring_up(
    state: State,
    spec: Container,
    *,
    running: bool,
    timeout: float,
    auth: Mapping[str, str] | None,
    declared: Container | None = None,
    carried: Mapping[str, str] = containers.NOTHING,
) -> Record:
    new = containers.create(state, spec, auth=auth, declared=declared, carried=carried)
    if not running:
        return new
    try:
        start.start(state, new)
        wellness.await_wellness(state, new, timeout=timeout)
    except BayplanError as error:
        stop.remove(state, new, force=True, volumes=True)
        raise Unavailable(f"replacing container {spec.name}, which was left as it was: {error}") from error
    except BaseException:
        stop.remove(state, new, force=True, volumes=True)
        raise
    return new._replace(spec=declared or spec)
