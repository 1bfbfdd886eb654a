"""What two containers cannot both have: a port of the host, an address of a network."""

from __future__ import annotations

from bayplan.errors import Conflict
from bayplan.model.container import Container, Port
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANY = {"": "", "0.0.0.0": "4", "::": "6"}


def check_claims(specs: Mapping[str, Container]) -> None:
    """Raise Conflict where two of the containers that will be there claim the same port or static address."""
    ports: dict[tuple[str, int], list[tuple[Port, str]]] = {}
    addresses: dict[tuple[str, str], str] = {}
    for name, spec in specs.items():
        for port in spec.ports:
            _claim_port(ports, port, name)
        for endpoint in spec.networks:
            for address in filter(None, (endpoint.ipv4_address, endpoint.ipv6_address)):
                other = addresses.setdefault((endpoint.network, address), name)
                if other != name:
                    raise Conflict(f"connecting container {name}: {address} on network {endpoint.network} belongs to {other}")


def _claim_port(ports: dict[tuple[str, int], list[tuple[Port, str]]], port: Port, name: str) -> None:
    if not port.published:
        return
    claimed = ports.setdefault((port.protocol, port.published), [])
    for other, owner in claimed:
        if owner != name and overlap(port.host_ip, other.host_ip):
            raise Conflict(
                f"publishing {port.published}/{port.protocol} of container {name}: container {owner} has that port of the "
                "host; publish another one, or remove one of the two"
            )
    claimed.append((port, name))


def overlap(one: str, other: str) -> bool:
    """Whether two host addresses can meet; "" is every address, the unspecified ones are all of their family."""
    if one == other or "" in (one, other):
        return True
    family_one, family_other = ("6" if ":" in each else "4" for each in (one, other))
    return family_one == family_other and (one in _ANY or other in _ANY)


def handovers(have: Mapping[str, Container], want: Mapping[str, Container]) -> dict[str, tuple[str, ...]]:
    """For each container in `want`, those that hold now what it will: they must let go first."""
    found: dict[str, tuple[str, ...]] = {}
    for name, spec in want.items():
        new = _claims(spec) - _claims(have[name]) if name in have else _claims(spec)
        holders = tuple(other for other in want if other != name and other in have and _meet(new, _claims(have[other]))) if new else ()
        found.update({name: holders} if holders else {})
    return found


def _claims(spec: Container) -> frozenset[tuple[str, str, str]]:
    """(what, where, kind): a port of the host, or an address of a network."""
    ports = {(f"{port.published}/{port.protocol}", port.host_ip, "port") for port in spec.ports if port.published}
    addresses = {
        (address, each.network, "address") for each in spec.networks for address in (each.ipv4_address, each.ipv6_address) if address
    }
    return frozenset(ports | addresses)


def _meet(one: frozenset[tuple[str, str, str]], other: frozenset[tuple[str, str, str]]) -> bool:
    return any(
        mine[0] == theirs[0] and mine[2] == theirs[2] and (mine[1] == theirs[1] if mine[2] == "address" else overlap(mine[1], theirs[1]))
        for mine in one
        for theirs in other
    )
