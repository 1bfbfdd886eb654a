"""What a policy's file may say, and what it says of images: tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bayplan.errors import Invalid, Refused
from bayplan.model.digest import parse_digest
from bayplan.model.policy import Policy, Signers, parse_pattern, parse_policy
from bayplan.model.reference import parse_reference
from bayplan.plan import policy as decide

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


def parse(rules: Any) -> Policy:
    return parse_policy(json.dumps({"rules": rules}).encode(), "/etc/p.json")


def answer(rules: Any, reference: str, kind: str) -> str:
    try:
        if kind == "push":
            decide.check_push(parse(rules), parse_reference(reference))
        else:
            decide.for_pull(parse(rules), parse_reference(reference))
    except Refused as error:
        assert reference.partition("@")[0].partition(":")[0].lower() in str(error).lower(), "the message names the image"
        return "deny"
    return "allow"


MATCHES = [
    ("*", "nginx", True),
    ("docker.io/*", "nginx", True),
    ("docker.io/*", "me/app", True),
    ("docker.io/*", "index.docker.io/me/app", True),
    ("docker.io/*", "DOCKER.IO/me/app", True),
    ("docker.io/*", "docker.io:443/me/app", True),
    ("docker.io/*", "registry-1.docker.io:0443/me/app", True),
    ("index.docker.io/*", "nginx", True),
    ("Docker.IO/nginx", "nginx", True),
    ("docker.io/nginx", "nginx:1", True),
    ("docker.io/nginx", "docker.io/library/nginx", True),
    ("docker.io/library/nginx", "docker.io:443/nginx", True),
    ("docker.io/nginx", "nginx/ingress", False),
    ("docker.io/nginx/*", "nginx/ingress", True),
    ("docker.io/nginx/*", "nginx", False),
    ("docker.io/*", "docker.io.example/x", False),
    ("docker.io/*", "notdocker.io/x", False),
    ("reg.io/team/*", "reg.io/team/app", True),
    ("reg.io/team/*", "reg.io/team/deep/app", True),
    ("reg.io/team/*", "reg.io/team", False),
    ("reg.io/team/*", "reg.io/teams/app", False),
    ("reg.io/team/app", "reg.io/team/app/x", False),
    ("reg.io/*", "reg.io:5000/x", True),
    ("reg.io:5000/*", "reg.io:5000/x", True),
    ("reg.io:5000/*", "reg.io:5001/x", False),
    ("reg.io:5000/*", "reg.io/x", False),
    ("reg.io:443/*", "reg.io/x", True),
    ("*.reg.io/*", "a.reg.io/x", True),
    ("*.reg.io/*", "a.b.reg.io:9/x", True),
    ("*.reg.io/*", "reg.io/x", False),
    ("*.reg.io/*", "areg.io/x", False),
    ("localhost/*", "localhost:5000/x", True),
    ("[::1]:5000/*", "[::1]:5000/x", True),
]


@pytest.mark.parametrize(("pattern", "reference", "expected"), MATCHES)
def test_a_pattern_is_for_these_images_and_not_for_those(pattern: str, reference: str, expected: bool) -> None:
    assert decide.matches(parse_pattern(pattern), parse_reference(reference)) is expected


MOST_SPECIFIC = ["*", "*.io/*", "*.reg.io/*", "x.reg.io/*", "x.reg.io:5/*", "x.reg.io/a/*", "x.reg.io:5/a/*", "x.reg.io/a/b/*",
                 "x.reg.io/a/b/c", "x.reg.io:5/a/b/c"]  # fmt: skip


@pytest.mark.parametrize("order", [MOST_SPECIFIC, MOST_SPECIFIC[::-1]], ids=["as listed", "reversed"])
def test_the_most_specific_rule_comes_first_wherever_it_stands_in_the_file(order: list[str]) -> None:
    rules = decide.matching(parse({pattern: {} for pattern in order}), parse_reference("x.reg.io:5/a/b/c"))
    assert [each.pattern.text for each in rules] == MOST_SPECIFIC[::-1]


DEFAULT_DENY = {"*": {"pull": "deny", "push": "deny"}, "reg.io/*": {"pull": "allow"}, "reg.io/team/*": {"push": "allow"}}
PINNED = {"reg.io/*": {"pinned": True}, "reg.io/app": {"pinned": {"1": [ONE], "2": [TWO]}}, "reg.io/free": {"pinned": False}}
DECISIONS = [
    ({}, "nginx", "pull", "allow"),
    ({}, "nginx", "push", "allow"),
    (DEFAULT_DENY, "nginx", "pull", "deny"),
    (DEFAULT_DENY, "reg.io/x", "pull", "allow"),
    (DEFAULT_DENY, "reg.io/x", "push", "deny"),
    (DEFAULT_DENY, "reg.io/team/x", "push", "allow"),
    (DEFAULT_DENY, "reg.io/team/x", "pull", "allow"),
    (PINNED, "reg.io/x:1", "pull", "deny"),
    (PINNED, f"reg.io/x@{ONE}", "pull", "allow"),
    (PINNED, f"reg.io/x:1@{ONE}", "pull", "allow"),
    (PINNED, "reg.io/free", "pull", "allow"),
    (PINNED, "reg.io/app:1", "pull", "allow"),
    (PINNED, "reg.io/app:3", "pull", "deny"),
    (PINNED, f"reg.io/app@{TWO}", "pull", "allow"),
    (PINNED, f"reg.io/app@sha256:{'3' * 64}", "pull", "deny"),
    (PINNED, "reg.io/x:1", "push", "allow"),
]


@pytest.mark.parametrize(("rules", "reference", "kind", "expected"), DECISIONS)
def test_a_name_is_allowed_or_refused(rules: Any, reference: str, kind: str, expected: str) -> None:
    assert answer(rules, reference, kind) == expected


def test_a_tag_stands_for_its_listed_digests_only() -> None:
    required = decide.for_pull(parse(PINNED), parse_reference("reg.io/app:1"))
    decide.check_digest(required, parse_digest(ONE))
    with pytest.raises(Refused, match=TWO):
        decide.check_digest(required, parse_digest(TWO))


def test_who_has_to_sign_is_said_by_the_most_specific_rule_that_says_it() -> None:
    rules = {"*": {"signed_by": {"keys": ["/a"]}}, "reg.io/*": {"push": "deny"}, "reg.io/open": {"signed_by": False}}
    assert decide.for_pull(parse(rules), parse_reference("reg.io/x")).signers == Signers(("/a",))
    assert decide.for_pull(parse(rules), parse_reference("reg.io/open")).signers is None


PEM = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"
GOOD = [
    {"*": {"signed_by": {"keys": [PEM, "/k"], "need": "all", "identity": "repository"}}},
    {"*": {"signed_by": False, "pinned": False}},
    {},
]
BAD = [
    ({"nginx": {}}, "registry"),
    ({"reg.io": {}}, "registry"),
    ({"reg.io/": {}}, "registry"),
    ({"*.reg.io": {}}, "registry"),
    ({"*.reg.io/team/*": {}}, "registry"),
    ({"*.reg.io:5/*": {}}, "registry"),
    ({"reg.*/x": {}}, "pattern"),
    ({"reg.io/te*/x": {}}, "pattern"),
    ({"reg.io/*/x": {}}, "pattern"),
    ({"reg.io/x:1": {}}, "tag"),
    ({"reg.io/x:latest": {}}, "tag"),
    ({f"reg.io/x@{ONE}": {}}, "tag"),
    ({"": {}}, "registry"),
    ({"**": {}}, "registry"),
    ({"docker.io/nginx": {}, "docker.io/library/nginx": {}}, "the same images"),
    ({"Reg.io/*": {}, "reg.io/*": {}}, "the same images"),
    ({"*": []}, "not an object"),
    ({"*": {"pul": "deny"}}, "unknown key 'pul'"),
    ({"*": {"pull": "Deny"}}, "allow or deny"),
    ({"*": {"pull": True}}, "allow or deny"),
    ({"*": {"push": None}}, "allow or deny"),
    ({"*": {"push": ""}}, "allow or deny"),
    ({"*": {"pinned": None}}, "pinned"),
    ({"*": {"pinned": {}}}, "lists no tag"),
    ({"*": {"pinned": {"1": []}}}, "digests"),
    ({"*": {"pinned": {"1": ONE}}}, "digests"),
    ({"*": {"pinned": {"1": ["sha256:1"]}}}, "digest"),
    ({"*": {"pinned": {"a/b": [ONE]}}}, "p.json"),
    ({"*": {"pinned": {"": [ONE]}}}, "p.json"),
    ({"*": {"signed_by": None}}, "signed_by"),
    ({"*": {"signed_by": True}}, "signed_by"),
    ({"*": {"signed_by": {}}}, "keys"),
    ({"*": {"signed_by": {"keys": []}}}, "keys"),
    ({"*": {"signed_by": {"keys": ["k.pub"]}}}, "absolute path"),
    ({"*": {"signed_by": {"keys": ["/k"], "need": "two"}}}, "one or all"),
    ({"*": {"signed_by": {"keys": ["/k"], "identity": "exact"}}}, "any or repository"),
    ({"*": {"signed_by": {"key": ["/k"]}}}, "unknown key"),
    ([], "rules"),
    (None, "rules"),
]


@pytest.mark.parametrize("rules", GOOD)
def test_a_policy_is_read(rules: Any) -> None:
    assert len(parse(rules).rules) == len(rules)


@pytest.mark.parametrize(("rules", "said"), BAD)
def test_what_is_not_clear_is_an_error_that_names_the_file(rules: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said) as raised:
        parse(rules)
    assert "/etc/p.json" in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"rules": {}, "rules": {}}', '{"rules": {}, "default": "deny"}', '{"rules": {}} x', "\udcff"]
)
def test_what_is_no_policy_at_all_is_an_error(text: str) -> None:
    with pytest.raises(Invalid, match=r"the policy /etc/p\.json"):
        parse_policy(text.encode("utf-8", "surrogateescape"), "/etc/p.json")
