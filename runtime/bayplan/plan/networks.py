"""What happens to networks before and after the containers. Pure."""

from __future__ import annotations

from bayplan.errors import Conflict, NotFound
from bayplan.model.container import Container
from bayplan.model.declaration import Declaration, WantedNetwork
from bayplan.model.host import Host
from bayplan.model.network import Network, network_document
from bayplan.model.result import Step
from bayplan.model.subnet import parse_address, parse_subnet
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan.difference import Change, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILT_IN = "bridge"
_IN_PLACE = frozenset({"labels", "project"})


def network_changes(have: Network, want: Network) -> tuple[Change, ...]:
    """The keys that differ, sorted."""
    old = {**network_document(have), **({"project": have.project} if have.project else {})}
    new = {**network_document(want), **({"project": want.project} if want.project else {})}
    return tuple(Change(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key))


def network_steps(want: Declaration, have: Host, specs: Mapping[str, Container]) -> tuple[Step, ...]:
    """Create, repair, update and replace; a network that is only used by a declared container (`specs`) is repaired as well.

    replace makes the network anew under its name while every container on it runs on: each is disconnected and connected
    again with its aliases and static addresses.
    """
    steps: list[Step] = []
    for wanted in want.networks:
        if wanted.state == "present":
            steps.extend(_present(wanted, want.project, have))
    for name in sorted(_used(specs) - {wanted.spec.name for wanted in want.networks}):
        there = have.networks.get(name)
        if there and there.drift:
            steps.append(Step("repair", "network", name, there.drift))
    return tuple(steps)


def _used(specs: Mapping[str, Container]) -> set[str]:
    """The networks that containers are on; who names none is on the built-in one."""
    named = {endpoint.network for spec in specs.values() for endpoint in spec.networks}
    return named | {BUILT_IN for spec in specs.values() if not spec.networks and spec.network_mode == BUILT_IN}


def _present(wanted: WantedNetwork, project: str, have: Host) -> tuple[Step, ...]:
    name, there = wanted.spec.name, have.networks.get(wanted.spec.name)
    if there is None and wanted.external:
        if name == BUILT_IN:
            return ()
        raise NotFound(f"looking for the external network {name}: there is none; create it first")
    if there is None:
        return (Step("create", "network", name, ("it does not exist",)),)
    repair = (Step("repair", "network", name, there.drift),) if there.drift else ()
    changes = network_changes(there.spec, settled_network(there.spec, wanted, project=project))
    if not changes:
        return repair
    why = tuple(describe(change) for change in changes)
    if all(change.key in _IN_PLACE for change in changes):
        return (Step("update", "network", name, why), *repair)
    return (Step("replace", "network", name, why),)


def settled_network(have: Network, wanted: WantedNetwork, *, project: str) -> Network:
    """The declaration that is recorded after a converge. A document without a project leaves the network to its project,
    and what is external stays as it is; Conflict where two projects declare it."""
    if wanted.external:
        return have
    if have.project == wanted.spec.project or not project:
        return wanted.spec._replace(project=have.project)
    owner = f"project {have.project}" if have.project else "no project"
    raise Conflict(f"declaring network {have.name} in project {project}: it exists and belongs to {owner}; declare it external")


def check_addresses(specs: Mapping[str, Container], want: Declaration, have: Host) -> None:
    """Raise Conflict where a container that will be there has a static address that its network will not hold."""
    known = {each.spec.name for each in want.networks} | set(have.networks)
    for name, spec in specs.items():
        for endpoint in (each for each in spec.networks if each.network in known):
            static = tuple(filter(None, (endpoint.ipv4_address, endpoint.ipv6_address)))
            subnets = _subnets(endpoint.network, want, have) if static else ()
            for address in static:
                if not _holds(subnets, address):
                    raise Conflict(
                        f"connecting container {name}: the static address {address} is not in network {endpoint.network}, which has "
                        f"{' and '.join(subnets) or 'no declared subnet'}; change one of them"
                    )


def _subnets(name: str, want: Declaration, have: Host) -> tuple[str, ...]:
    """What the network will have: as it is, where its subnets are not declared anew."""
    there = have.networks.get(name)
    declared = next((each.spec for each in want.networks if each.spec.name == name and not each.external), None)
    kept = there is not None and (declared is None or (declared.subnet, declared.subnet6) == (there.spec.subnet, there.spec.subnet6))
    if there is not None and kept:
        return tuple(filter(None, (there.subnet or there.spec.subnet, there.spec.subnet6)))
    return (*filter(None, (declared.subnet, declared.subnet6)),) if declared else ()


def _holds(subnets: tuple[str, ...], address: str) -> bool:
    number, bits = parse_address(address)
    return any(parse_subnet(subnet).holds(number, bits) for subnet in subnets)


def network_removals(want: Declaration, have: Host, specs: Mapping[str, Container]) -> tuple[Step, ...]:
    """What is declared absent, and the project's networks that are not declared; Conflict where a container stays on one."""
    steps = [_removal(wanted.spec.name, "declared absent", specs) for wanted in want.networks if _leaves(wanted, want, have)]
    declared = {wanted.spec.name for wanted in want.networks}
    for name, network in sorted(have.networks.items()):
        if want.project and want.remove_orphans and network.spec.project == want.project and name not in declared:
            steps.append(_removal(name, f"project {want.project} does not declare it", specs))
    return tuple(steps)


def _leaves(wanted: WantedNetwork, want: Declaration, have: Host) -> bool:
    there = have.networks.get(wanted.spec.name)
    return wanted.state == "absent" and there is not None and (not want.project or there.spec.project == want.project)


def _removal(name: str, why: str, specs: Mapping[str, Container]) -> Step:
    for user, spec in specs.items():
        if any(endpoint.network == name for endpoint in spec.networks):
            raise Conflict(f"removing network {name}: container {user} is on it; disconnect or remove it first")
    return Step("remove", "network", name, (why,))


def check_memberships(specs: Mapping[str, Container], want: Declaration, have: Host) -> tuple[str, ...]:
    """The networks that containers name and that will not be there, with the container's name before each."""
    declared = {each.spec.name for each in want.networks if each.state == "present"}
    there = {BUILT_IN, *declared, *have.networks}
    return tuple(
        f"connecting container {name}: there is no network {endpoint.network}; declare it or create it first"
        for name, spec in specs.items()
        for endpoint in spec.networks
        if endpoint.network not in there
    )
