"""Our tables as the kernel keeps them: installed, observed, damaged, repaired, removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from network_lab import STATE, Lab, command

from bayplan.errors import BayplanError, Invalid, NotFound
from bayplan.kernel import firewall, linux, netlink
from bayplan.kernel.firewall import Bridge, Publication, Ruleset

FIRST, SECOND = Bridge("bp1a2b3cb0", "10.89.0.0/24"), Bridge("bp1a2b3cb1", "10.89.1.0/24", "fd00:89:1::/64")
INNER = Bridge("bp1a2b3cb2", "10.89.2.0/24", None, True)
WEB, NAMES = Publication("tcp", "", 8080, "10.89.0.5", 80), Publication("udp", "127.0.0.1", 53, "10.89.0.5", 53)
WEB6 = Publication("tcp", "", 8080, "fd00:89:1::5", 80)
WHOLE = Ruleset(frozenset([FIRST, SECOND, INNER]), frozenset([WEB, NAMES, WEB6]))


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def observe(lab: Lab) -> Ruleset | None:
    return lab.on_host(lambda: firewall.observe(STATE))


def repair(lab: Lab, wanted: Ruleset = WHOLE) -> None:
    lab.on_host(lambda: firewall.repair(STATE, wanted))


def rules(lab: Lab) -> str:
    return lab.on_host(lambda: command("nft", "list", "ruleset"))


def test_where_nothing_is_nothing_is_observed_and_observing_makes_nothing(lab: Lab) -> None:
    assert observe(lab) is None
    assert rules(lab) == "", "no table"


def test_what_was_installed_is_observed(lab: Lab) -> None:
    repair(lab)
    assert observe(lab) == WHOLE
    before = rules(lab)
    repair(lab)
    assert rules(lab) == before, "doing it again changes nothing"


@pytest.mark.parametrize(
    "wanted",
    [
        Ruleset(),
        Ruleset(frozenset([FIRST])),
        Ruleset(frozenset([FIRST, SECOND]), frozenset([WEB._replace(address="10.89.0.6"), WEB6])),
        Ruleset(frozenset([FIRST._replace(internal=True), SECOND._replace(subnet6=None)]), frozenset([NAMES])),
        Ruleset(frozenset([FIRST, INNER._replace(internal=False)])),
        Ruleset(frozenset([FIRST._replace(subnet4="10.77.0.0/16"), INNER._replace(subnet6="fd00:2::/64")]), frozenset([WEB])),
        Ruleset(frozenset([Bridge("bp1a2b3cbx", "10.89.3.0/24")]), frozenset([WEB._replace(host_ip="192.0.2.1")])),
    ],
)
def test_from_anything_the_tables_come_to_what_is_wanted_and_back(lab: Lab, wanted: Ruleset) -> None:
    repair(lab)
    before = rules(lab)
    repair(lab, wanted)
    assert observe(lab) == wanted
    repair(lab)
    assert observe(lab) == WHOLE
    assert len(rules(lab)) == len(before), "nothing of what was between is left"


@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        f"flush table ip bayplan-{STATE}",
        f"flush chain ip bayplan-{STATE} forwarded",
        f"flush chain ip6 bayplan-{STATE} forwarded",
        f"delete table ip6 bayplan-{STATE}",
        f"flush chain ip bayplan-{STATE} within-{FIRST.name}",
        f"flush set ip bayplan-{STATE} bridges",
        f"flush map ip bayplan-{STATE} published",
        f'delete element ip bayplan-{STATE} internal {{ "{INNER.name}" }}',
        f'add element ip bayplan-{STATE} same {{ "eth0" . "{FIRST.name}" }}',
        f"delete element ip bayplan-{STATE} subnets {{ 10.89.0.0/24 }}",
        f"add element ip bayplan-{STATE} published {{ tcp . 22 : 10.89.0.5 . 22 }}",
        f"add element ip bayplan-{STATE} published {{ icmp . 8 : 10.89.0.5 . 22 }}",
        f"insert rule ip bayplan-{STATE} forwarded accept",
        f"add rule ip bayplan-{STATE} arriving drop",
        f"add chain ip bayplan-{STATE} mine {{ type filter hook forward priority 5; policy drop; }}",
        f"chain ip bayplan-{STATE} forwarded {{ policy drop; }}",
        f'flush chain ip bayplan-{STATE} within-{FIRST.name}; add rule ip bayplan-{STATE} within-{FIRST.name} accept comment "x"',
    ],
)
def test_whatever_somebody_else_does_to_our_tables_is_seen_and_repaired(lab: Lab, harm: str) -> None:
    repair(lab)
    lab.on_host(lambda: command("nft", harm))
    assert observe(lab) != WHOLE, "the drift is seen"
    repair(lab)
    assert observe(lab) == WHOLE, "and repaired"
    assert "priority filter + 5" not in rules(lab) and "tcp . 22" not in rules(lab), "nothing of it is left"


def test_publishing_leads_a_port_that_is_published_already_elsewhere(lab: Lab) -> None:
    repair(lab)
    moved = WEB._replace(address="10.89.0.6")
    new = Publication("sctp", "192.0.2.1", 9, "10.89.0.6", 9)
    lab.on_host(lambda: firewall.publish(STATE, [moved, new]))
    assert observe(lab) == WHOLE._replace(publications=frozenset([moved, NAMES, WEB6, new]))


def test_withdrawing_leaves_alone_what_leads_elsewhere_by_now(lab: Lab) -> None:
    repair(lab)
    lab.on_host(lambda: firewall.publish(STATE, [WEB._replace(address="10.89.0.6")]))
    lab.on_host(lambda: firewall.unpublish(STATE, [WEB, NAMES, WEB6, WEB._replace(host_port=1)]))
    assert observe(lab) == WHOLE._replace(publications=frozenset([WEB._replace(address="10.89.0.6")]))


def test_publishing_without_tables_says_so_and_makes_none(lab: Lab) -> None:
    with pytest.raises(NotFound, match="converge"):
        lab.on_host(lambda: firewall.publish(STATE, [WEB]))
    lab.on_host(lambda: firewall.unpublish(STATE, [WEB]))
    assert rules(lab) == ""


def test_one_publication_that_makes_no_sense_changes_nothing(lab: Lab) -> None:
    repair(lab)
    with pytest.raises(Invalid):
        lab.on_host(lambda: firewall.publish(STATE, [WEB._replace(host_port=1), WEB._replace(address="web")]))
    assert observe(lab) == WHOLE


def test_wildcards_are_one_however_they_are_spelt(lab: Lab) -> None:
    repair(lab, Ruleset(frozenset([FIRST]), frozenset([WEB._replace(host_ip="0.0.0.0")])))
    assert observe(lab) == Ruleset(frozenset([FIRST]), frozenset([WEB]))
    shouted = WEB6._replace(host_ip="::", address="FD00:89:1:0::5")
    assert firewall.canonical(shouted) == WEB6
    lab.on_host(lambda: firewall.unpublish(STATE, [WEB._replace(host_ip="0.0.0.0")]))
    assert observe(lab) == Ruleset(frozenset([FIRST]))


def test_another_network_keeps_the_ports_of_a_table_that_somebody_has_damaged(lab: Lab) -> None:
    repair(lab)
    lab.on_host(lambda: command("nft", f"flush chain ip bayplan-{STATE} forwarded"))
    more = [*WHOLE.bridges, Bridge("bp1a2b3cb7", "10.89.7.0/24")]
    lab.on_host(lambda: firewall.install(STATE, more))
    assert observe(lab) == Ruleset(frozenset(more), WHOLE.publications)


def test_whether_there_is_a_table_is_told_without_reading_it(lab: Lab) -> None:
    assert not lab.on_host(lambda: firewall.present(STATE))
    repair(lab)
    assert lab.on_host(lambda: firewall.present(STATE))


def test_removing_leaves_nothing_and_twice_is_no_error(lab: Lab) -> None:
    repair(lab)
    for _ in range(2):
        lab.on_host(lambda: firewall.remove(STATE))
        assert rules(lab) == ""


def test_states_and_other_peoples_tables_are_left_alone(lab: Lab) -> None:
    lab.on_host(lambda: command("nft", "table ip mine { chain c { ip daddr 10.0.0.1 drop; }; }"))
    lab.on_host(lambda: firewall.repair("ffffffff", WHOLE))
    before = rules(lab)
    repair(lab)
    lab.on_host(lambda: firewall.remove(STATE))
    assert rules(lab) == before
    assert lab.on_host(lambda: firewall.observe("ffffffff")) == WHOLE


def test_two_thousand_ports_are_published_and_observed(lab: Lab) -> None:
    many = frozenset(Publication("tcp", "", port, "10.89.0.5", port) for port in range(10_000, 12_000))
    repair(lab, Ruleset(frozenset([FIRST]), many))
    assert observe(lab) == Ruleset(frozenset([FIRST]), many)
    lab.on_host(lambda: firewall.unpublish(STATE, many))
    assert observe(lab) == Ruleset(frozenset([FIRST]))


def at_once(lab: Lab, actions: list[Callable[[], None]]) -> list[int]:
    """Run each action on the host in a process of its own, all beginning together; return their exit statuses."""
    gate, opener = os.pipe()
    children = []
    for action in actions:
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)
            status = 1
            try:
                netlink.inside(lab.host, action)
                status = 0
            except BayplanError:
                pass
            finally:
                os._exit(status)
        children.append(child)
    os.close(opener)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(gate)
    return statuses


def test_ten_that_repair_at_once_all_succeed_and_agree(lab: Lab) -> None:
    assert at_once(lab, [lambda: firewall.repair(STATE, WHOLE)] * 10) == [0] * 10
    assert observe(lab) == WHOLE


def test_ten_that_publish_at_once_lose_nothing(lab: Lab) -> None:
    repair(lab, Ruleset(frozenset([FIRST])))
    ports = [WEB._replace(host_port=9000 + number) for number in range(10)]
    assert at_once(lab, [lambda port=port: firewall.publish(STATE, [port]) for port in ports]) == [0] * 10  # type: ignore[misc]
    assert observe(lab) == Ruleset(frozenset([FIRST]), frozenset(ports))


def test_a_kernel_without_nf_tables_is_named_with_the_remedy(lab: Lab) -> None:
    """A seccomp filter that answers EPROTONOSUPPORT to sockets of that protocol stands for a kernel without it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            linux.prctl(38, 1, 0, 0, 0)  # no_new_privs
            linux.seccomp_filter(without_netfilter())
            firewall.repair(STATE, WHOLE)
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 1000).decode()
    os.close(read)
    assert said.startswith("Unavailable") and "nf_tables" in said and "host or none" in said, said


def without_netfilter() -> bytes:
    import struct

    def step(code: int, true: int, false: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, true, false, value)

    socket_number = 41 if os.uname().machine == "x86_64" else 198
    return b"".join(
        (
            step(0x20, 0, 0, 0),  # the call's number
            step(0x15, 0, 3, socket_number),
            step(0x20, 0, 0, 32),  # its third argument
            step(0x15, 0, 1, netlink.NETFILTER),
            step(0x06, 0, 0, 0x00050000 | 93),
            step(0x06, 0, 0, 0x7FFF0000),
        )
    )
