"""Which subnet a network gets, which address a container, and the names and MACs that follow from them.

What is already in use is always handed in: leases from the records, routes and addresses from the kernel.
"""

from __future__ import annotations

from bayplan.errors import Conflict, Invalid
from bayplan.model import subnet as subnets
from bayplan.model.subnet import Subnet, overlapping, parse_address, parse_interface, parse_subnet, printed
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Each gives networks of 256 addresses. None is a default of another engine (172.17.0.0/16 and up, 10.88.0.0/16).
POOLS = ("10.89.0.0/16", "10.90.0.0/16", "172.29.0.0/16", "192.168.192.0/18")
_POOL_LENGTH = 24
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def choose_subnet(taken: Iterable[str], *, pools: Iterable[str] = POOLS) -> str:
    """Return the first subnet of the pools that overlaps none of `taken` (subnets, routes, addresses with a prefix length).

    Default routes ("0.0.0.0/0") overlap everything and count for nothing. Raises Conflict if the pools are used up.
    """
    used = list(_used(taken))
    for pool in pools:
        candidate = parse_subnet(pool)._replace(length=_POOL_LENGTH)
        end = parse_subnet(pool).last
        while candidate.first <= end:
            clash = overlapping(candidate, used)
            if clash is None:
                return str(candidate)
            candidate = candidate._replace(first=_after(clash, candidate))
    raise Conflict("choosing a subnet for a network: all subnets of the default pools are in use; declare a subnet")


def _after(clash: Subnet, candidate: Subnet) -> int:
    size = 1 << candidate.bits - candidate.length
    return max(candidate.first + size, (clash.last // size + 1) * size)


def _used(taken: Iterable[str]) -> Iterator[Subnet]:
    for each in taken:
        subnet = parse_interface(each)[1]
        if subnet.length:
            yield subnet


def choose_subnet6(network_id: str) -> str:
    """Return the unique local /64 (RFC 4193) that follows from the network's id, 64 hex digits: its 40 random bits are the id's first."""
    digits = f"fd{network_id[:10]}"
    return str(Subnet(int(digits, 16) << 80, 64, 128))


def check_subnet(subnet: str, taken: Iterable[str]) -> str:
    """Return a declared subnet in its usual spelling; raises Invalid if no network can have it, Conflict if something has it already."""
    wanted = subnets.check_subnet(subnet)
    clash = overlapping(wanted, _used(taken))
    if clash:
        raise Conflict(f'subnet "{subnet}" overlaps {clash}, which this host uses already')
    return str(wanted)


def gateway_of(subnet: str, wanted: str = "") -> str:
    """Return the host's address in the subnet: its first, or `wanted` if it is one of the subnet's; raises Invalid."""
    space = parse_subnet(subnet)
    if not wanted:
        return printed(space.first + 1, space.bits)
    number, bits = parse_address(wanted)
    _check_inside(space, number, bits, what=f"gateway {wanted}")
    return printed(number, bits)


def lease(subnet: str, taken: Iterable[str], *, gateway: str, wanted: str = "", ip_range: str = "", after: str = "") -> str:
    """Return an address for a container: `wanted` if it is given, else the next free one.

    `taken` are the addresses leased in this subnet. Free ones are looked for in `ip_range` (the whole subnet if ""), beginning after
    `after`, the last that was leased, so that an address is not at once somebody else's. Raises Invalid for an address outside of the
    subnet, Conflict for one that is taken and if none is left.
    """
    space = parse_subnet(subnet)
    used = {parse_address(each)[0] for each in taken}
    reserved = parse_address(gateway)[0]
    if wanted:
        return _lease_wanted(space, wanted, used=used, gateway=reserved)
    within = parse_subnet(ip_range) if ip_range else space
    if within.bits != space.bits or within.first < space.first or within.last > space.last:
        raise Invalid(f"ip_range {ip_range} lies outside of the subnet {subnet}")
    lowest, highest = max(within.first, space.first + 1), min(within.last, space.last - (space.bits == 32))
    start = parse_address(after)[0] + 1 if after else lowest
    for first, last in ((max(start, lowest), highest), (lowest, min(start - 1, highest))):
        for number in range(first, last + 1):
            if number not in used and number != reserved:
                return printed(number, space.bits)
    raise Conflict(f"leasing an address: all of {within} are taken; declare a network with a larger subnet")


def _lease_wanted(space: Subnet, wanted: str, *, used: set[int], gateway: int) -> str:
    number, bits = parse_address(wanted)
    _check_inside(space, number, bits, what=f"address {wanted}")
    if number == gateway:
        raise Conflict(f"address {wanted} is the gateway of {space}")
    if number in used:
        raise Conflict(f"address {wanted} is leased to another container")
    return printed(number, bits)


def _check_inside(space: Subnet, number: int, bits: int, *, what: str) -> None:
    if not space.offers(number, bits):
        raise Invalid(f"{what} is none of the usable addresses of {space}")


def mac_of(address: str) -> str:
    """Return the MAC that goes with an IPv4 address: who takes the address over has the same, so that no neighbour's cache is stale."""
    number, _ = parse_address(address)
    return "02:42:" + ":".join(f"{number >> shift & 255:02x}" for shift in (24, 16, 8, 0))


def prefix_of(state: str) -> str:
    """Return what the names of all of a state's links begin with; `state` is its id, eight hex digits."""
    return f"bp{state[:6]}"


def bridge_name(state: str, gateway: str) -> str:
    """Return the name of the bridge whose IPv4 address is `gateway`."""
    return _name(state, "b", gateway)


def link_name(state: str, address: str) -> str:
    """Return the name of the host's end of the pair that leads to the container with that IPv4 address.

    Names have 15 characters; six digits to the base of 62 hold an address, so that no two containers of a state can have one name.
    """
    return _name(state, "v", address)


def _name(state: str, kind: str, address: str) -> str:
    number, _ = parse_address(address)
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return prefix_of(state) + kind + digits
