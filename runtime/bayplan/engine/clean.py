"""Clearing what a killed process has left: directories without a record, links, cgroups and ports without a container."""

from __future__ import annotations

from bayplan.engine import adjust, cgroup, containers, endpoints, publications, replace, stop
from bayplan.engine.aside import ASIDE
from bayplan.engine.state import State
from bayplan.kernel import firewall, interfaces, links
from bayplan.plan import addresses
from bayplan.store import records, sweep


def debris(state: State) -> None:
    """Remove all of it. Only what carries this state's id is touched, and nothing that somebody is working on.

    Others work meanwhile, and record a thing before they make it: so what is there is always listed before what is known.
    """
    abandoned = sweep.debris(state.root, _known(state))
    for container_id in sorted(set(abandoned) - _known(state)):
        cgroup.remove(state, container_id)
        sweep.remove_debris(state.root, container_id)
    rows = {row.id: row for row in records.containers(state.records)}
    for row in rows.values():
        if not containers.run_of(state, row.id).pid:
            stop.settle(state, containers.record_of(row), remove=False)
    for row in rows.values():
        if row.name.endswith(ASIDE):
            replace.recover(state, row)
    for record in containers.all_records(state):
        if endpoints.claim_drift(state, record.id, record.spec):
            adjust.reclaim(state, record)
    _links(state)
    _cgroups(state)
    _ports(state)


def _known(state: State) -> frozenset[str]:
    return frozenset(row.id for row in records.containers(state.records))


def _links(state: State) -> None:
    """Links of ours that lead to no lease and belong to no network."""
    there = [name for name in interfaces.observe() if name.startswith(addresses.prefix_of(state.id))]
    known = {addresses.link_name(state.id, lease.ipv4) for lease in records.endpoints(state.records)}
    known |= {row.bridge for row in records.networks(state.records)}
    for name in there:
        if name not in known:
            links.detach(name)


def _cgroups(state: State) -> None:
    there = cgroup.names(state)
    for container_id in there - _known(state):
        cgroup.remove(state, container_id)


def _ports(state: State) -> None:
    there = firewall.observe(state.id)
    if there:
        stray = there.publications - publications.of_running(state)
        if stray:
            firewall.unpublish(state.id, stray)
