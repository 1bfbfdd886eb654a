"""Addresses and subnets: text at the borders ("10.89.0.5", "10.89.0.0/24"), (number, bits) inside, bits being 32 or 128."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_RESERVED = {
    32: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"),
    128: ("::/127", "fe80::/10", "ff00::/8"),
}


class Subnet(NamedTuple):
    """first is the number of its lowest address, length the prefix length, bits 32 or 128."""

    first: int
    length: int
    bits: int

    @property
    def last(self) -> int:
        return int(self.first + (1 << self.bits - self.length) - 1)

    def holds(self, number: int, bits: int) -> bool:
        """Whether an address lies in it, its ends included."""
        return bits == self.bits and self.first <= number <= self.last

    def offers(self, number: int, bits: int) -> bool:
        """Whether a container or a gateway can have an address of it: not its lowest, nor the one for broadcasts."""
        return self.holds(number, bits) and number != self.first and not (bits == 32 and number == self.last)

    def __str__(self) -> str:
        return f"{printed(self.first, self.bits)}/{self.length}"


def parse_subnet(subnet: str) -> Subnet:
    """Read "10.89.0.0/24"; raises Invalid, also for one with bits set behind its prefix."""
    found = parse_interface(subnet)
    if found[0] != found[1].first:
        raise Invalid(f'subnet "{subnet}" has bits set behind its prefix; it is {found[1]}')
    return found[1]


def parse_interface(text: str) -> tuple[int, Subnet]:
    """Read "10.89.0.5/24" as the address and the subnet that it is in; raises Invalid."""
    plain, slash, length = text.partition("/")
    number, bits = parse_address(plain)
    if not slash or not _is_small(length) or int(length) > bits:
        raise Invalid(f'"{text}" is no subnet; it is written like 10.89.0.0/24')
    size = 1 << bits - int(length)
    return number, Subnet(number - number % size, int(length), bits)


def parse_address(address: str) -> tuple[int, int]:
    """Return (number, bits); raises Invalid. Decimal parts with leading zeros are refused: some read them as octal."""
    if ":" in address:
        return _parse_ipv6(address), 128
    parts = address.split(".")
    if len(parts) != 4 or not all(_is_octet(each) for each in parts):
        raise Invalid(f'"{address}" is no IP address')
    number = 0
    for each in parts:
        number = number << 8 | int(each)
    return number, 32


def _is_octet(part: str) -> bool:
    return _is_small(part) and int(part) < 256


def _is_small(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and str(int(text)) == text


def _parse_ipv6(address: str) -> int:
    import ipaddress  # ten milliseconds, which only networks with IPv6 pay

    try:
        return int(ipaddress.IPv6Address(address.replace("%", "no zone")))
    except ValueError as error:
        raise Invalid(f'"{address}" is no IP address') from error


def printed(number: int, bits: int) -> str:
    if bits == 32:
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    import ipaddress

    return str(ipaddress.IPv6Address(number))


def overlapping(subnet: Subnet, others: Iterable[Subnet]) -> Subnet | None:
    for other in others:
        if other.bits == subnet.bits and other.first <= subnet.last and subnet.first <= other.last:
            return other
    return None


def check_subnet(subnet: str) -> Subnet:
    """Read a subnet that a network is to have; raises Invalid where none can have it."""
    wanted = parse_subnet(subnet)
    if wanted.bits - wanted.length < 2:
        raise Invalid(f'subnet "{subnet}" has no room for a gateway and a container; it takes a /{wanted.bits - 2} or larger')
    reserved = overlapping(wanted, map(parse_subnet, _RESERVED[wanted.bits]))
    if reserved:
        raise Invalid(f'subnet "{subnet}" overlaps {reserved}, which is reserved for other uses')
    return wanted
