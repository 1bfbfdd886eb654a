"""The parts of a plan by themselves: differences, order, claims."""

from __future__ import annotations

import pytest

from bayplan.errors import Conflict, Invalid
from bayplan.model.compose import parse_declaration
from bayplan.model.container import Container, Dependency, File, Limits, Port, Restart
from bayplan.model.host import Host
from bayplan.plan.claims import check_claims, overlap
from bayplan.plan.converge import plan
from bayplan.plan.difference import container_changes, describe, is_in_place, settled_spec
from bayplan.plan.order import dependency_order

SPEC = Container("web", "nginx", environment=(("PASSWORD", "hunter2"),))


def test_a_reason_names_variables_and_files_but_never_their_values() -> None:
    digests = [f"sha256:{digit * 64}" for digit in "ab"]
    old, new = (SPEC._replace(files=(File("secret", "key", "/run/secrets/key", digest, "aHVzaA=="),)) for digest in digests)
    changes = container_changes(old, new._replace(environment=(("PASSWORD", "correct horse"), ("NEW", "x"))))
    lines = [describe(change) for change in changes]
    assert lines == ["environment: NEW added, PASSWORD changed", "content of secret key changed"], "what changed, by name"


def test_a_reason_is_one_printable_line_of_bounded_length() -> None:
    (change,) = container_changes(SPEC, SPEC._replace(labels=(("a", "\x1b[31m\n" + "x" * 500),)))
    assert describe(change).isprintable() and len(describe(change)) < 200, "a hostile label cannot write on a terminal"


def test_limits_restart_and_labels_change_in_place_and_a_user_does_not() -> None:
    changed = SPEC._replace(limits=Limits(memory=5, pids=6), restart=Restart("always"), labels=(("a", "b"),), stop_grace_period=5)
    assert all(is_in_place(change) for change in container_changes(SPEC, changed)), "the process keeps running"
    assert not any(is_in_place(change) for change in container_changes(SPEC, SPEC._replace(user="5"))), "this needs a new one"


def test_our_own_keys_stand_beside_composes_and_a_project_changes_in_place() -> None:
    changes = container_changes(SPEC, SPEC._replace(project="app", service="web", auto_remove=True))
    assert [change.key for change in changes] == ["auto_remove", "project", "service"], "each key once, none hidden in another"
    assert all(is_in_place(change) for change in changes), "whose a container is, is the record's matter"


def test_equal_declarations_have_no_difference_whatever_the_contents_at_hand() -> None:
    file = File("secret", "key", "/run/secrets/key", f"sha256:{'a' * 64}", "aHVzaA==")
    assert container_changes(SPEC._replace(files=(file._replace(content=""),)), SPEC._replace(files=(file,))) == (), "digests decide"


def test_ignored_keys_keep_what_is_recorded_and_contents_come_along() -> None:
    file = File("secret", "key", "/run/secrets/key", f"sha256:{'a' * 64}", "aHVzaA==")
    want = Container("web", "nginx", user="5", files=(file,))
    settled = settled_spec(SPEC, want, ignore=("environment",))
    assert settled.environment == SPEC.environment and settled.user == "5" and settled.files == (file,), "the rest is as wanted"
    assert settled_spec(SPEC, want, replace=False).user is None, "without a replacement only what changes in place does"


def test_a_long_chain_of_dependencies_is_ordered() -> None:
    names = [f"c{index}" for index in range(5000)]
    specs = {name: Container(name, "x", depends_on=(Dependency(after),)) for name, after in zip(names, names[1:])}
    specs[names[-1]] = Container(names[-1], "x")
    assert dependency_order(specs, {}) == tuple(reversed(names)), "each after what it needs, however deep"


def test_a_cycle_through_a_shared_network_is_refused() -> None:
    specs = {"a1": Container("a1", "x", network_mode="container:b1"), "b1": Container("b1", "x", depends_on=(Dependency("a1"),))}
    with pytest.raises(Conflict, match="a1 needs b1 needs a1"):
        dependency_order(specs, {})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "10.0.0.1", True),
        ("0.0.0.0", "10.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_addresses_of_the_host_meet_or_do_not(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is expected and overlap(other, one) is expected, "both ways"


def test_random_ports_and_other_protocols_do_not_clash() -> None:
    specs = {
        "a1": Container("a1", "x", ports=(Port(80, 0), Port(53, 53, "udp"))),
        "b1": Container("b1", "x", ports=(Port(80, 0), Port(53, 53, "tcp"))),
    }
    check_claims(specs)


def test_an_unknown_capability_is_refused_by_the_plan_and_not_by_the_start() -> None:
    with pytest.raises(Invalid, match="not a capability"):
        plan(parse_declaration({"services": {"web": {"image": "x", "cap_add": ["SYS_EVERYTHING"]}}}), Host())


def test_a_predicted_dependency_is_a_warning() -> None:
    networks = {"made-before": {"ipv4_address": "10.9.0.5"}}
    want = parse_declaration({"services": {"web": {"image": "x", "networks": networks}}})
    planned = plan(want, Host(), predict=True)
    assert planned.steps and "there is no network made-before" in planned.warnings[0], "an earlier task would have made it"
