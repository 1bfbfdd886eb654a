"""Other people's firewalls in the way: chains that would drop what our tables let pass, and the room that some of them reserve.

A packet has to pass every base chain of a hook; an accept of ours does not overrule somebody else's drop. Where the other tool reserves a
chain for additions (Docker's DOCKER-USER, ufw's user chain), two marked rules there let our bridges' traffic pass: our own table, which the
packet has to pass all the same, is what decides about it. Anywhere else there is nothing that we could rightly do, and the error names
the chain.
"""

from __future__ import annotations

import errno

from bayplan.errors import Kernel, Unavailable
from bayplan.model.value import TYPE_CHECKING, NamedTuple

from . import expressions as expr
from . import netlink, xtables
from . import nftables as nft
from .netlink import Channel
from .nftables import Chain, Element, Found
from .verdicts import Dropped, Packet, Table, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FAMILIES = {nft.INET: "inet", nft.IPV4: "ip", nft.IPV6: "ip6"}
_ROOMS = ("DOCKER-USER", "ufw-user-forward", "ufw6-user-forward")
_DOING = "looking for other firewalls"


class Obstacle(NamedTuple):
    """chain is the foreign base chain, at the point where the packet ends; room the chain where rules of ours may stand, or ""."""

    family: int
    table: str
    base: str
    chain: str
    by: str
    room: str
    legacy: bool = False

    def __str__(self) -> str:
        table = f"{_FAMILIES[self.family]} {self.table}" + (" (iptables-legacy)" if self.legacy else "")
        return f"chain {self.chain} of table {table} drops containers' traffic by {self.by}"


class Mark(NamedTuple):
    """A rule of ours in somebody else's chain, about packets that enter by our bridges or about those that leave by them."""

    family: int
    table: str
    chain: str
    handle: int
    entering: bool
    legacy: bool = False


def observe(state: str, bridges: Iterable[str], *, ipv6: bool = False) -> tuple[Obstacle, ...]:
    """Return the foreign chains that drop what goes from one of the bridges to the outside, or in to a published port.

    `bridges` are names. Chains that cannot be judged for want of knowledge (they ask for addresses or ports) are let pass for good.
    """
    names = tuple(bridges)
    with Channel(netlink.NETFILTER) as channel:
        found = [each for place in _forward_chains(channel, ipv6=ipv6) for each in _obstacles_in(*place, names)]
    for family, table in _legacy_tables():
        if ipv6 or family == nft.IPV4:
            found += [each._replace(legacy=True) for each in _obstacles_in(family, "filter", "FORWARD", table, names)]
    return tuple(found)


def marks(state: str) -> tuple[Mark, ...]:
    """Return the rules that `clear` has put into other tools' chains."""
    with Channel(netlink.NETFILTER) as channel:
        found = _marks(channel, state)
    for family, table in _legacy_tables():
        rules = [each for room in _ROOMS for each in table.rules.get(room, ()) if each.comment == comment_of(state)]
        found += [Mark(family, "filter", each.chain, 0, _is_entering(each), legacy=True) for each in rules]
    return tuple(found)


def clear(state: str, obstacles: Sequence[Obstacle]) -> None:
    """Put our marked rules into the rooms of the obstacles; those already there are replaced.

    Raises Unavailable, naming the chain and what the administrator can do, if one has no room; nothing is changed then.
    """
    for obstacle in obstacles:
        if not obstacle.room:
            raise Unavailable(f"{obstacle}; {_remedy(state, obstacle)}")
    _clear_legacy(state, {(each.family, each.room) for each in obstacles if each.legacy})
    rooms = {(each.family, each.table, each.room) for each in obstacles if not each.legacy}
    with Channel(netlink.NETFILTER) as channel:
        old = [each for each in _marks(channel, state) if (each.family, each.table, each.chain) in rooms]
        changes = [nft.delete_rules(each.family, each.table, each.chain, handle=each.handle) for each in old]
        for family, table, room in sorted(rooms):
            changes += [nft.new_rule(family, table, rule, first=True) for rule in _rules(state, room)]
        if changes:
            channel.transact("letting containers' traffic through another firewall", changes)


def withdraw(state: str) -> None:
    """Remove all rules of ours from other tools' chains."""
    for mark in marks(state):
        if mark.legacy:
            xtables.delete(mark.family, mark.chain, comment_of(state), link=_links_of(state), entering=mark.entering)
    with Channel(netlink.NETFILTER) as channel:
        changes = [nft.delete_rules(each.family, each.table, each.chain, handle=each.handle) for each in _marks(channel, state)]
        if changes:
            channel.transact("removing our rules from another firewall", changes)


def comment_of(state: str) -> str:
    return f"bayplan-{state}"


def _rules(state: str, room: str) -> tuple[nft.Rule, ...]:
    """One rule for what comes from a bridge of the state, one for what goes to it, in the form that iptables-nft writes and reads."""
    prefix = _links_of(state).encode()
    return tuple(
        nft.Rule(room, comment_of(state), (expr.meta(key), expr.equals(prefix), expr.counter(), expr.verdict(nft.ACCEPT)))
        for key in (expr.IN_NAME, expr.OUT_NAME)
    )


def _marks(channel: Channel, state: str) -> list[Mark]:
    found = []
    for message in _dump(channel, nft.GETRULE):
        rule = nft.read_rule(message)
        if rule.comment == comment_of(state) and rule.chain in _ROOMS:
            found.append(Mark(rule.family, rule.table, rule.chain, rule.handle, _is_entering(rule)))
    return found


def _is_entering(rule: Found) -> bool:
    return any(name == "meta" and int.from_bytes(fields.get(2, b""), "big") == expr.IN_NAME for name, fields in rule.expressions)


def _legacy_tables() -> list[tuple[int, Table]]:
    read = ((family, xtables.read(family)) for family in (nft.IPV4, nft.IPV6))
    return [(family, table) for family, table in read if table]


def _clear_legacy(state: str, rooms: set[tuple[int, str]]) -> None:
    present = {(each.family, each.chain, each.entering) for each in marks(state) if each.legacy}
    for family, room in sorted(rooms):
        for entering in (True, False):
            if (family, room, entering) not in present:
                xtables.insert(family, room, comment_of(state), link=_links_of(state), entering=entering)


def _forward_chains(channel: Channel, *, ipv6: bool) -> list[tuple[int, str, str, Table]]:
    """Return (family, table's name, base chain's name, table) of other people's base chains that see forwarded packets."""
    chains: dict[tuple[int, str], dict[str, Chain]] = {}
    for message in _dump(channel, nft.GETCHAIN):
        family, name, chain = nft.read_chain(message)
        if family in _FAMILIES and not name.startswith("bayplan-") and (ipv6 or family != nft.IPV6):
            chains.setdefault((family, name), {})[chain.name] = chain
    forward = {place: [each.name for each in held.values() if _sees_forwarded(each)] for place, held in chains.items()}
    tables = {place: _read(channel, place, chains[place]) for place, bases in forward.items() if bases}
    return [(*place, base, table) for place, table in tables.items() for base in forward[place]]


def _sees_forwarded(chain: Chain) -> bool:
    return chain.kind == "filter" and chain.hook == nft.FORWARD


def _read(channel: Channel, place: tuple[int, str], chains: dict[str, Chain]) -> Table:
    family, name = place
    rules: dict[str, list[Found]] = {}
    for message in channel.dump(_DOING, nft.ask(nft.GETRULE, family, table=name)):
        rule = nft.read_rule(message)
        if rule.table == name:
            rules.setdefault(rule.chain, []).append(rule)

    def elements(wanted: str) -> list[Element] | None:
        try:
            return list(nft.read_elements(channel.dump(_DOING, nft.ask(nft.GETELEMENT, family, table=name, name=wanted))))
        except Kernel:
            return None

    return Table(chains, rules, elements)


def _obstacles_in(family: int, name: str, base: str, table: Table, bridges: Sequence[str]) -> list[Obstacle]:
    packets = [packet for bridge in bridges for packet in (Packet(bridge, ""), Packet("", bridge, translated=True))]
    found: dict[Dropped, None] = {}
    for packet in packets:
        dropped = judge(table, base, packet)
        if dropped:
            found[dropped] = None
    room = next((each for each in _ROOMS if each in table.chains), "")
    return [Obstacle(family, name, base, each.chain, each.by, room) for each in found]


def _dump(channel: Channel, kind: int) -> list[netlink.Message]:
    try:
        return channel.dump(_DOING, nft.ask(kind, 0))
    except Kernel as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # no nf_tables: nobody else can have tables either
            return []
        raise


def _links_of(state: str) -> str:
    """Return what the names of the state's links begin with (plan/addresses.py)."""
    return f"bp{state[:6]}"


def _remedy(state: str, obstacle: Obstacle) -> str:
    links = _links_of(state)
    if obstacle.table == "firewalld":
        added = "firewall-cmd --permanent --zone=trusted --add-interface=BRIDGE && firewall-cmd --reload"
        return f"give the bridge to a zone that forwards: {added}"
    rules = f'iifname "{links}*" accept and oifname "{links}*" accept'
    return f"put rules into {obstacle.base} of that table, before the drop, which let these links pass: {rules}"
