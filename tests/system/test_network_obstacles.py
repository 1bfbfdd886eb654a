"""Other firewalls on the same host, made with their own commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network_lab import STATE, Lab, command

from bayplan.errors import Unavailable
from bayplan.kernel import firewall, obstacles
from bayplan.kernel.firewall import Publication, Ruleset

DOCKER = ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-P FORWARD DROP", "-A FORWARD -j DOCKER-USER", "-A FORWARD -o docker0 -j ACCEPT")
UFW = (
    "-N ufw-user-forward",
    "-N ufw-before-forward",
    "-N ufw-reject-forward",
    "-P FORWARD DROP",
    "-A FORWARD -j ufw-before-forward",
    "-A FORWARD -j ufw-reject-forward",
    "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A ufw-before-forward -p icmp --icmp-type echo-request -j ACCEPT",
    "-A ufw-before-forward -j ufw-user-forward",
    "-A ufw-reject-forward -j REJECT",
)
FIREWALLD = """
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES {
        iifname "trusted0" goto filter_FWD_trusted
        goto filter_FWD_public
    }
    chain filter_FWD_trusted { accept; }
    chain filter_FWD_public { meta l4proto icmp accept; }
}
"""
OWN = """
table inet mine {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        ip saddr 198.51.100.0/24 accept
    }
}
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def iptables(lab: Lab, *lines: str, kind: str = "iptables-nft") -> None:
    for line in lines:
        lab.on_host(lambda line=line: command(kind, *line.split()))  # type: ignore[misc]


def nft(lab: Lab, text: str) -> None:
    lab.on_host(lambda: command("nft", text))


class Small:
    """A published container, and one that asks outside."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.bridge = lab, lab.network(0)
        web = lab.container(self.bridge, 5)
        wanted = Ruleset(frozenset([self.bridge]), frozenset([Publication("tcp", "", 8080, "10.89.0.5", 80)]))
        lab.on_host(lambda: firewall.repair(STATE, wanted))
        lab.listen(web, 80)
        lab.listen(lab.outside, 7000)
        self.web = web

    def obstacles(self) -> tuple[obstacles.Obstacle, ...]:
        return self.lab.on_host(lambda: obstacles.observe(STATE, [self.bridge.name]))

    def passes(self) -> tuple[bool, bool]:
        inwards, outwards = self.lab.ask(self.lab.outside, "192.0.2.1", 8080), self.lab.ask(self.web, "192.0.2.9", 7000)
        return inwards not in (None, "refused"), outwards not in (None, "refused")


def test_a_host_without_other_firewalls_has_no_obstacles(lab: Lab) -> None:
    small = Small(lab)
    assert small.obstacles() == ()
    assert small.passes() == (True, True)


@pytest.mark.parametrize("kind", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize(("lines", "room"), [(DOCKER, "DOCKER-USER"), (UFW, "ufw-user-forward")])
def test_a_tool_that_reserves_room_gets_marked_rules_there_and_loses_them_again(
    lab: Lab, lines: tuple[str, ...], room: str, kind: str
) -> None:
    iptables(lab, *lines, kind=kind)
    small = Small(lab)
    found = small.obstacles()
    assert {each.room for each in found} == {room}, "the obstacle is seen, and the room"
    assert small.passes() == (False, False), "it is a real obstacle"
    lab.on_host(lambda: obstacles.clear(STATE, found))
    assert small.passes() == (True, True), "and is out of the way"
    assert small.obstacles() == (), "which a second look confirms"
    lab.on_host(lambda: obstacles.clear(STATE, found))
    listed = lab.on_host(lambda: command(kind, "-S", room))
    assert listed.count(f"--comment bayplan-{STATE} -j ACCEPT") == 2, f"doing it again adds nothing; the other tool can read it: {listed}"
    assert {each.entering for each in lab.on_host(lambda: obstacles.marks(STATE))} == {True, False}
    lab.on_host(lambda: obstacles.withdraw(STATE))
    assert "bayplan" not in lab.on_host(lambda: command(kind, "-S")), "nothing of ours stays"


def test_what_our_table_forbids_stays_forbidden_behind_the_marked_rules(lab: Lab) -> None:
    iptables(lab, *DOCKER)
    small = Small(lab)
    lab.listen(small.web, 81)
    lab.on_host(lambda: obstacles.clear(STATE, small.obstacles()))
    assert lab.ask(lab.outside, "10.89.0.5", 81) is None, "the room's accept does not overrule our drop"


@pytest.mark.parametrize(("rules", "named"), [(FIREWALLD, "firewall-cmd"), (OWN, "chain forward of table inet mine")])
def test_a_tool_without_room_is_an_error_that_names_chain_and_remedy(lab: Lab, rules: str, named: str) -> None:
    nft(lab, rules)
    small = Small(lab)
    found = small.obstacles()
    assert found and not small.passes()[1], "it is a real obstacle"
    with pytest.raises(Unavailable, match=named):
        lab.on_host(lambda: obstacles.clear(STATE, found))


@pytest.mark.parametrize(
    "rule",
    [
        'inet mine forward iifname "bp1a2b3c*" accept; insert rule inet mine forward oifname "bp1a2b3c*" accept',
        'inet mine forward iifname { "bp1a2b3cb0", "eth7" } accept; insert rule inet mine forward oifname "bp1a2b3cb0" accept',
        'inet mine forward iifname vmap { "bp1a2b3cb0" : accept }; insert rule inet mine forward ct status dnat accept',
        "inet mine forward ct state new accept",
        "inet mine forward counter accept",
    ],
)
def test_a_rule_of_the_administrators_that_lets_us_pass_is_understood(lab: Lab, rule: str) -> None:
    nft(lab, OWN)
    nft(lab, f"insert rule {rule}")
    small = Small(lab)
    assert small.obstacles() == (), "no error where there is no obstacle"
    assert small.passes() == (True, True), "and there is none"


@pytest.mark.parametrize(
    ("lines", "dropped"),
    [
        (["-P FORWARD DROP"], True),
        (["-P FORWARD DROP", "-A FORWARD -i bp1a2b3c+ -j ACCEPT", "-A FORWARD -o bp1a2b3cb0 -j ACCEPT"], False),
        (["-P FORWARD DROP", "-A FORWARD -i bp1a2b3c+ -j ACCEPT"], True),
        (["-P FORWARD DROP", "-A FORWARD ! -i wlan0 ! -o wlan0 -j ACCEPT"], True),
        (["-P FORWARD DROP", "-A FORWARD -p tcp -j ACCEPT", "-A FORWARD -m conntrack --ctstate NEW -j ACCEPT"], True),
        (["-N mine", "-A FORWARD -g mine", "-A mine -j REJECT --reject-with icmp-port-unreachable"], True),
        (["-A FORWARD -s 203.0.113.0/24 -j DROP", "-A FORWARD -i wlan+ -j DROP", "-A FORWARD -j LOG --log-prefix DROP"], False),
    ],
)
def test_the_older_iptables_is_understood_and_an_error_names_its_chain(lab: Lab, lines: list[str], dropped: bool) -> None:
    iptables(lab, *lines, kind="iptables-legacy")
    found = Small(lab).obstacles()
    assert bool(found) == dropped
    if found:
        with pytest.raises(Unavailable, match=r"iptables-legacy.*bp1a2b3c\*"):
            lab.on_host(lambda: obstacles.clear(STATE, found))


def test_a_drop_of_other_traffic_is_no_obstacle(lab: Lab) -> None:
    nft(lab, OWN.replace("policy drop", "policy accept").replace("24 accept", "24 drop"))
    nft(lab, 'add rule inet mine forward iifname "wlan0" drop')
    assert Small(lab).obstacles() == ()
