"""One family's table of a state as the kernel has it, compared with what we install."""

from __future__ import annotations

import errno

from bayplan.errors import Invalid, Kernel, Unavailable
from bayplan.model.value import NamedTuple

from . import netlink
from . import nftables as nft
from .netlink import Channel
from .nftables import Element
from .ruleset import (
    CHAINS,
    FOREIGN,
    Bridge,
    Family,
    Publication,
    bridge_elements,
    chain_of,
    read_publications,
    rule_of,
    rules,
    sets,
    subnet_of,
    table_of,
)

MAPS = ("addressed", "published")
DOING = "changing the firewall's tables"
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
_REMEDY = (
    "this kernel lacks what bridge networks need of nf_tables; load or enable nf_tables, nft_chain_nat, nft_nat, nft_masq, nft_ct, "
    "nft_fib_ipv4 and nft_fib_ipv6, or use the network mode host or none"
)


class Part(NamedTuple):
    """What one family's table holds, or should."""

    bridges: frozenset[Bridge]
    publications: frozenset[Publication]


def read_table(channel: Channel, state: str, family: Family) -> Part | None:
    """Return what the table holds, None if there is none or if anything but its elements for ports is not as installed."""
    if not exists(channel, state, family):
        return None
    read = {each.name: listed(channel, state, family, each.name) for each in sets(family)}
    elements = {name: found for name, found in read.items() if found is not None}
    if len(elements) < len(read):
        return None
    publications = {each for name in MAPS for each in read_publications(family, name, elements[name])}
    if any(each.protocol == FOREIGN for each in publications):
        return None
    try:
        bridges = _intact(channel, state, family, elements)
    except Invalid:  # somebody has written something else where a subnet was
        return None
    return None if bridges is None else Part(bridges, frozenset(publications))


def readable_publications(channel: Channel, state: str, family: Family) -> set[Publication]:
    """Return the ports that the table leads somewhere, in whatever state the rest of it is; none if there is no table."""
    found = {each for name in MAPS for each in read_publications(family, name, listed(channel, state, family, name) or ())}
    return {each for each in found if each.protocol != FOREIGN}


def _intact(channel: Channel, state: str, family: Family, elements: dict[str, list[Element]]) -> frozenset[Bridge] | None:
    """Return the bridges if chains, rules and the sets about bridges are exactly what we install for them."""
    table = table_of(state)
    comments: dict[str, list[str]] = {}
    for message in channel.dump(DOING, nft.ask(nft.GETRULE, family.number, table=table)):
        rule = nft.read_rule(message)
        if rule.table == table:
            comments.setdefault(rule.chain, []).append(rule.comment)
    internal = {each.key for each in elements["internal"]}
    bridges = frozenset(
        _bridge(each.key, (comments.get(each.jump) or [""])[0], internal=each.key in internal, family=family) for each in elements["within"]
    )
    expected: dict[str, list[str]] = {}
    for planned in [*rules(family), *(rule_of(each, family) for each in bridges if subnet_of(each, family))]:
        expected.setdefault(planned.chain, []).append(planned.comment)
    whole = comments == expected and _chains(channel, state, family) == set(CHAINS) | {nft.Chain(chain_of(each.name)) for each in bridges}
    return bridges if whole and _agree(bridges, family, elements) else None


def _bridge(key: bytes, subnet: str, *, internal: bool, family: Family) -> Bridge:
    name = netlink.read_text(key)
    return Bridge(name, subnet, None, internal) if family.number == nft.IPV4 else Bridge(name, "", subnet, internal)


def _agree(bridges: frozenset[Bridge], family: Family, elements: dict[str, list[Element]]) -> bool:
    expected: dict[str, set[Element]] = {}
    for bridge in bridges:
        for name, wanted in bridge_elements(bridge, family).items():
            expected.setdefault(name, set()).update(wanted)
    found = {name: {each._replace(code=None) for each in held} for name, held in elements.items() if name not in MAPS}
    return all(held == expected.get(name, set()) for name, held in found.items())


def _chains(channel: Channel, state: str, family: Family) -> set[nft.Chain]:
    found = (nft.read_chain(each) for each in channel.dump(DOING, nft.ask(nft.GETCHAIN, family.number)))
    return {
        chain._replace(policy=None) if chain.policy == nft.ACCEPT else chain
        for _, table, chain in found
        if table == table_of(state)
    }


def exists(channel: Channel, state: str, family: Family) -> bool:
    try:
        found = channel.dump(DOING, nft.ask(nft.GETTABLE, family.number))
    except Kernel as error:
        raise explained(error) from error
    return table_of(state) in {nft.read_table(each) for each in found}


def listed(channel: Channel, state: str, family: Family, name: str) -> list[Element] | None:
    """Return a set's elements, None if it is not there."""
    try:
        messages = channel.dump(DOING, nft.ask(nft.GETELEMENT, family.number, table=table_of(state), name=name))
    except Kernel as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return list(nft.read_elements(messages))


def explained(error: Kernel) -> Exception:
    """Return Unavailable with the remedy for an error that says that the kernel lacks a part of nf_tables, else the error."""
    return Unavailable(f"{error}: {_REMEDY}") if error.errno in (*_UNSUPPORTED, errno.ENOENT) else error
