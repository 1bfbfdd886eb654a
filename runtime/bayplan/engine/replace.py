"""Putting a new container in an old one's place, so that never nothing runs.

Where old and new share no writable mount, no static address and no published port, the new one is started first and the old one
goes when the new one is well. Otherwise the old one stops first: two databases on one volume would corrupt it. Either way a new
one that does not get well is removed, and the old one runs again as it did.
"""

from __future__ import annotations

from bayplan.engine import containers, start, stop, wellness
from bayplan.engine.containers import Record
from bayplan.engine.state import State
from bayplan.errors import BayplanError, Unavailable
from bayplan.model.container import Container
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import records

if TYPE_CHECKING:
    from collections.abc import Mapping

ASIDE = ".replaced"


def replace(
    state: State, old: Record, spec: Container, *, running: bool, timeout: float, auth: Mapping[str, str] | None = None
) -> Record:
    """Make `spec` the container of this name. `running` says whether it is to run; `timeout` seconds bound the wait for its health.

    Raises what making and starting it raises, or Unavailable where it does not get well; then the old one is as it was.
    """
    was_running = containers.run_of(state, old.id).status in ("running", "restarting")
    _rename(state, old, old.name + ASIDE)
    try:
        if was_running and not overlap(old.spec, spec):
            new = _bring_up(state, spec, running=running, timeout=timeout, auth=auth)
        else:
            new = _swap(state, old, spec, running=running, was_running=was_running, timeout=timeout, auth=auth)
    except BaseException:
        _rename(state, old, old.name)
        raise
    stop.remove(state, old._replace(name=old.name + ASIDE), force=True, volumes=False)
    return new


def overlap(old: Container, new: Container) -> bool:
    """Whether the two cannot run beside each other."""
    writable = {mount.source for mount in old.mounts if mount.kind != "tmpfs" and not mount.read_only}
    shared = any(mount.source in writable for mount in new.mounts if mount.kind != "tmpfs")
    static = any(each.ipv4_address or each.ipv6_address for each in (*old.networks, *new.networks))
    ports = {port.published for port in old.ports} & {port.published for port in new.ports} - {0}
    return shared or static or bool(ports) or "host" in (old.network_mode, new.network_mode)


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
        return _bring_up(state, spec, running=running, timeout=timeout, auth=auth)
    except BaseException:
        with records.transaction(state.records):
            for port in ports:
                records.put_port(state.records, port)
            for lease in leases:
                records.put_endpoint(state.records, lease)
        if was_running:
            start.start(state, old)
        raise


def _bring_up(state: State, spec: Container, *, running: bool, timeout: float, auth: Mapping[str, str] | None) -> Record:
    new = containers.create(state, spec, auth=auth)
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
    return new
