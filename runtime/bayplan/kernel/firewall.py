"""The tables of one state in the kernel: observed, installed, published to, repaired, removed.

Nothing is kept open or in memory; every change is one transaction, which the kernel takes as a whole or not at all. `state` is the
state's id, eight hex digits; nothing here touches another state's tables or anybody else's.
"""

from __future__ import annotations

import errno

from bayplan.errors import Kernel, NotFound
from bayplan.model.value import TYPE_CHECKING, NamedTuple

from . import conntrack, netlink
from . import nftables as nft
from .installed import DOING, Part, exists, explained, read_table, readable_publications
from .netlink import Channel, Message
from .nftables import Element
from .ruleset import (
    CHAINS,
    FAMILIES,
    Bridge,
    Family,
    Publication,
    Ruleset,
    bridge_elements,
    canonical,
    chain_of,
    publication_element,
    rule_of,
    rules,
    sets,
    subnet_of,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Bridge", "Publication", "Ruleset", "canonical", "install", "observe", "present", "publish", "remove", "repair", "unpublish"]

_ATTEMPTS = 5
_OVERTAKEN = (errno.EEXIST, errno.ENOENT, errno.EBUSY)


class _Change(NamedTuple):
    """The messages that change one family's table, and the ports that lead elsewhere after it."""

    messages: list[Message]
    publications: frozenset[Publication]


def observe(state: str) -> Ruleset | None:
    """Return what the tables hold; None if there is none, or if rules, chains or sets of it are not as installed.

    Publications are as `canonical` makes them. Raises Kernel, and Unavailable without nf_tables.
    """
    with Channel(netlink.NETFILTER) as channel:
        parts = [read_table(channel, state, family) for family in FAMILIES.values()]
    first, second = parts
    if first is None:
        return None
    if second is None:
        return Ruleset(first.bridges, first.publications)
    subnets = {each.name: each.subnet6 for each in second.bridges}
    bridges = frozenset(each._replace(subnet6=subnets.get(each.name)) for each in first.bridges)
    return Ruleset(bridges, first.publications | second.publications)


def install(state: str, bridges: Iterable[Bridge]) -> None:
    """Make the tables know exactly these bridges; publications stay, as far as they can be read. Idempotent. Raises as repair does."""
    with Channel(netlink.NETFILTER) as channel:
        tables = [each for each in FAMILIES.values() if exists(channel, state, each)]
        kept = {each for family in tables for each in readable_publications(channel, state, family)}
    repair(state, Ruleset(frozenset(bridges), frozenset(kept)))


def present(state: str) -> bool:
    """Whether the state has a table at all; cheaper than observing it. Raises as observe does."""
    with Channel(netlink.NETFILTER) as channel:
        return exists(channel, state, FAMILIES[nft.IPV4])


def repair(state: str, wanted: Ruleset) -> None:
    """Make the tables hold exactly what is wanted, in one transaction, which is built anew if somebody else's came first.

    Raises Unavailable if the kernel has no nf_tables, Kernel if it refuses; the tables are then as before.
    """
    with Channel(netlink.NETFILTER) as channel:
        for attempt in range(_ATTEMPTS):
            try:
                changes = [_change(channel, state, family, wanted) for family in FAMILIES.values()]
                messages = [message for change in changes for message in change.messages]
                if messages:
                    _transact(channel, messages)
                break
            except Kernel as error:
                if error.errno not in _OVERTAKEN or attempt == _ATTEMPTS - 1:
                    raise explained(error) from error
    conntrack.forget(publication for change in changes for publication in change.publications)


def publish(state: str, publications: Iterable[Publication]) -> None:
    """Add the ports, or lead them elsewhere if they are published already; existing UDP flows to them start anew.

    Raises NotFound if the tables are not there (repair makes them), Invalid for a publication that makes no sense.
    """
    wanted = tuple(publications)
    if not wanted:
        return
    with Channel(netlink.NETFILTER) as channel:
        try:
            _transact(channel, _publishing(state, wanted))
        except Kernel as error:
            if error.errno != errno.EEXIST:
                raise _missing(state, error) from error
            _transact(channel, [*_withdrawing(state, _claimed(channel, state, wanted)), *_publishing(state, wanted)])
    conntrack.forget(wanted)


def unpublish(state: str, publications: Iterable[Publication]) -> None:
    """Withdraw those that lead where they say; one that is gone, or leads elsewhere by now, is left alone."""
    wanted = frozenset(map(canonical, publications))
    with Channel(netlink.NETFILTER) as channel:
        for attempt in range(_ATTEMPTS):
            found = wanted & _claimed(channel, state, wanted)
            try:
                if found:
                    _transact(channel, list(_withdrawing(state, found)))
                break
            except Kernel as error:
                if error.errno != errno.ENOENT or attempt == _ATTEMPTS - 1:
                    raise
    conntrack.forget(found)


def remove(state: str) -> None:
    """Delete the state's tables; those that are not there are no error."""
    with Channel(netlink.NETFILTER) as channel:
        for family in FAMILIES.values():
            if exists(channel, state, family):
                _transact(channel, [nft.delete_table(family.number, table_of(state))])


def _change(channel: Channel, state: str, family: Family, wanted: Ruleset) -> _Change:
    want = _part_of(wanted, family)
    have = read_table(channel, state, family)
    if family.number == nft.IPV6 and not want.bridges:
        gone = have.publications if have else frozenset()
        superfluous = exists(channel, state, family)
        return _Change([nft.delete_table(family.number, table_of(state))] if superfluous else [], gone)
    if have is None:
        return _Change(_rebuilding(state, family, want, anew=not exists(channel, state, family)), want.publications)
    messages = [each for bridge in sorted(have.bridges - want.bridges) for each in _forgetting(state, bridge, family)]
    messages += [each for bridge in sorted(want.bridges - have.bridges) for each in _introducing(state, bridge, family)]
    messages += _withdrawing(state, have.publications - want.publications)
    messages += _publishing(state, want.publications - have.publications)
    return _Change(messages, have.publications ^ want.publications)


def _part_of(wanted: Ruleset, family: Family) -> Part:
    bridges = frozenset(
        each._replace(subnet6=None) if family.number == nft.IPV4 else each._replace(subnet4="")
        for each in wanted.bridges
        if subnet_of(each, family)
    )
    publications = (canonical(each) for each in wanted.publications if publication_element(each)[0] is family)
    return Part(bridges, frozenset(publications))


def _rebuilding(state: str, family: Family, want: Part, *, anew: bool) -> list[Message]:
    """Make the table, replacing one that is there unless it is to be `anew`: a deletion costs 16 ms (nameport.py)."""
    table, number = table_of(state), family.number
    messages = [nft.new_table(number, table, exclusive=True)]
    if not anew:
        messages.insert(0, nft.delete_table(number, table))
    messages += [nft.new_set(number, table, each, number=place) for place, each in enumerate(sets(family), 1)]
    messages += [nft.new_chain(number, table, each) for each in CHAINS]
    messages += [nft.new_rule(number, table, each) for each in rules(family)]
    for bridge in sorted(want.bridges):
        messages += _introducing(state, bridge, family)
    return [*messages, *_publishing(state, want.publications)]


def _introducing(state: str, bridge: Bridge, family: Family) -> list[Message]:
    table, number = table_of(state), family.number
    messages = [nft.new_chain(number, table, nft.Chain(chain_of(bridge.name))), nft.new_rule(number, table, rule_of(bridge, family))]
    for name, elements in bridge_elements(bridge, family).items():
        messages += nft.new_elements(number, table, name, elements)
    return messages


def _forgetting(state: str, bridge: Bridge, family: Family) -> list[Message]:
    table, number = table_of(state), family.number
    messages: list[Message] = []
    for name, elements in bridge_elements(bridge, family).items():
        messages += nft.delete_elements(number, table, name, elements)
    chain = chain_of(bridge.name)
    return [*messages, nft.delete_rules(number, table, chain), nft.delete_chain(number, table, chain)]


def _publishing(state: str, publications: Iterable[Publication]) -> list[Message]:
    table = table_of(state)
    return [
        message
        for (number, name), elements in _grouped(publications).items()
        for message in nft.new_elements(number, table, name, elements)
    ]


def _withdrawing(state: str, publications: Iterable[Publication]) -> list[Message]:
    table = table_of(state)
    return [
        message
        for (number, name), elements in _grouped(publications).items()
        for message in nft.delete_elements(number, table, name, elements)
    ]


def _grouped(publications: Iterable[Publication]) -> dict[tuple[int, str], list[Element]]:
    groups: dict[tuple[int, str], list[Element]] = {}
    for publication in sorted(publications):
        family, name, element = publication_element(publication)
        groups.setdefault((family.number, name), []).append(element)
    return groups


def _claimed(channel: Channel, state: str, wanted: Iterable[Publication]) -> frozenset[Publication]:
    """Return the publications in the kernel that have the same host's address, protocol and port as one of `wanted`."""
    families = {publication_element(each)[0] for each in wanted}
    keys = {canonical(each)[:3] for each in wanted}
    return frozenset(each for family in families for each in readable_publications(channel, state, family) if each[:3] in keys)


def _transact(channel: Channel, changes: list[Message]) -> None:
    channel.transact(DOING, changes)


def _missing(state: str, error: Kernel) -> Exception:
    if error.errno == errno.ENOENT:
        return NotFound(f"publishing ports: the table {table_of(state)} is not there; converge the host's networks again")
    return explained(error)
