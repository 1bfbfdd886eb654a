"""The steps from a host as it is to a host as it is declared. Pure: check mode stops here, diff is read off it."""

from __future__ import annotations

from bayplan.errors import NotFound
from bayplan.model.container import Container
from bayplan.model.declaration import Declaration, WantedContainer
from bayplan.model.host import Host
from bayplan.model.result import Step
from bayplan.model.value import TYPE_CHECKING, NamedTuple
from bayplan.plan import documents, images, networks, volumes
from bayplan.plan.claims import check_claims, handovers
from bayplan.plan.containers import Decision, decide, steps_of, with_consequences, with_fetched_images
from bayplan.plan.order import dependency_order, sharing
from bayplan.plan.waiting import check_waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Planned(NamedTuple):
    """steps in the order of doing; before and after hold, per changed resource ("container web"), what changes of it."""

    steps: tuple[Step, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    warnings: tuple[str, ...]


def plan(want: Declaration, have: Host, *, predict: bool = False) -> Planned:
    """Compare and decide. Order: images, volumes and networks that are made or changed, containers that go or stop,
    containers that come or change (after what they depend on), the firewall's repairs, then networks, volumes and images that go.

    A container goes before another comes because it may hold what the other one claims: a port, an address.
    Raises Conflict and NotFound where doing it would fail as well. `predict` makes a warning of a network or container
    that is missing: an earlier task of the same play would have made it.
    """
    own = {each.wanted.spec.name: each for each in _own_decisions(want, have)}
    specs = {name: each.spec for name, each in own.items() if not each.gone}
    order = dependency_order(specs, handovers({name: each.spec for name, each in have.containers.items()}, specs))
    decisions, fetched = _fixed_point(want, have, own, order)
    staying = {**{name: each.spec for name, each in have.containers.items() if name not in decisions}, **specs}
    known = {name: spec for name, spec in specs.items() if decisions[name].wanted.known}
    missing = (*_missing_prerequisites(known, staying), *networks.check_memberships(known, want, have))
    if missing and not predict:
        raise NotFound(missing[0])
    check_waiting(decisions, have)
    check_claims(staying)
    networks.check_addresses({name: spec for name, spec in staying.items() if name in have.containers or name in known}, want, have)
    steps = (
        *fetched.steps,
        *images.tags(want, have, fetched.ids),
        *volumes.volume_steps(want, have),
        *networks.network_steps(want, have, known),
        *_container_steps(decisions, order),
        *(Step("repair", "firewall", name, ("it is missing in our tables",)) for name in have.firewall_drift),
        *networks.network_removals(want, have, staying),
        *volumes.volume_removals(want, have, staying),
        *images.removals(want, have, decisions),
    )
    before, after = documents.before_and_after(want, have, decisions, steps)
    return Planned(steps, before, after, (*fetched.warnings, *_warnings(want, have, decisions, staying), *missing))


def _fixed_point(
    want: Declaration, have: Host, own: Mapping[str, Decision], order: tuple[str, ...]
) -> tuple[dict[str, Decision], images.Fetched]:
    """A new image replaces its containers, they take along whoever shares their namespaces, and that may need an image."""
    leaving = tuple(name for name in own if name not in order)
    fetched = images.Fetched((), {}, ())
    while True:
        decisions = with_consequences(with_fetched_images(own, fetched.ids), (*leaving, *order))
        following = images.fetches(want, have, decisions)
        if following.ids.keys() == fetched.ids.keys():
            return decisions, following
        fetched = following


def _own_decisions(want: Declaration, have: Host) -> list[Decision]:
    """The declared containers by themselves, then the project's that are not declared."""
    awaited = {
        dependency.container
        for each in want.containers
        for dependency in each.spec.depends_on
        if dependency.condition == "service_completed_successfully"
    }
    declared = [each for each in want.containers if not _foreign(each, want, have)]
    decisions = [decide(each, have, project=want.project, awaited=each.spec.name in awaited) for each in declared]
    return decisions + [
        Decision(WantedContainer(have.containers[name].spec, "absent", known=False), have.containers[name], have.containers[name].spec)
        for name in (_orphans(want, have) if want.remove_orphans else ())
    ]


def _foreign(wanted: WantedContainer, want: Declaration, have: Host) -> bool:
    """A project takes away only what is its own; a document without a project names what it means."""
    there = have.containers.get(wanted.spec.name)
    return bool(wanted.state == "absent" and want.project and there and there.spec.project != want.project)


def _orphans(want: Declaration, have: Host) -> tuple[str, ...]:
    declared = {each.spec.name for each in want.containers}
    found = (name for name, each in have.containers.items() if want.project and each.spec.project == want.project)
    return tuple(sorted(name for name in found if name not in declared))


def _container_steps(decisions: Mapping[str, Decision], order: tuple[str, ...]) -> tuple[Step, ...]:
    """Those that go or stop, dependents first; then the others in dependency order."""
    gone = dependency_order({name: each.spec for name, each in decisions.items() if each.gone}, {})
    ending = [name for name in order if decisions[name].wanted.state == "stopped" and not decisions[name].fresh]
    leaving = [step for name in reversed((*gone, *ending)) for step in steps_of(decisions[name])]
    coming = [step for name in order if name not in ending for step in steps_of(decisions[name])]
    return (*leaving, *coming)


def _missing_prerequisites(specs: Mapping[str, Container], staying: Mapping[str, Container]) -> tuple[str, ...]:
    found: list[str] = []
    for name, spec in specs.items():
        needed = [*sharing(spec), *(each.container for each in spec.depends_on if each.required)]
        found.extend(
            f"starting container {name}: it needs container {other}, which will not be there; declare it or create it first"
            for other in needed
            if other not in staying
        )
    return tuple(found)


def _warnings(
    want: Declaration, have: Host, decisions: Mapping[str, Decision], staying: Mapping[str, Container]
) -> tuple[str, ...]:
    kept = [
        f"container {name} is left as it is (recreate: never), though it would be replaced: {reason}"
        for name, each in decisions.items()
        for reason in each.unmended
    ]
    left_behind = [
        f"container {name} shares namespaces with {owner}, which is replaced or removed; restart it"
        for name in staying
        if name not in decisions
        for owner in sharing(staying[name])
        if owner in decisions and (decisions[owner].fresh or decisions[owner].gone)
    ]
    foreign = [
        f"container {each.spec.name} is not removed: it does not belong to project {want.project}"
        for each in want.containers
        if _foreign(each, want, have)
    ]
    orphans = [
        f"container {name} belongs to project {want.project}, which does not declare it; remove_orphans removes it"
        for name in (() if want.remove_orphans else _orphans(want, have))
    ]
    return (*kept, *left_behind, *foreign, *orphans)
