"""A policy is read strictly, and what lies beside an image in a registry is anybody's: either is read or refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid, Refused
from bayplan.model import signature
from bayplan.model.policy import parse_pattern, parse_policy
from bayplan.model.reference import parse_reference
from bayplan.plan import policy as decide

_DIGEST = f"sha256:{'1' * 64}"
_words = st.sampled_from(["allow", "deny", "one", "all", "repository", "/k", _DIGEST, "1.27", signature.PAYLOAD_TYPE, "AAAA", ""])
_KEYS = (
    "pull push pinned signed_by keys need identity critical image docker-manifest-digest type optional layers mediaType digest size"
    " annotations dev.cosignproject.cosign/signature manifests artifactType dsseEnvelope payload payloadType signatures sig subject"
    " predicateType _type"
).split()
_scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | _words
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), inner),
    max_leaves=12,
)
_patterns = st.sampled_from(["*", "*.io/*", "reg.io/*", "reg.io:5/a/*", "reg.io/a/b", "docker.io/nginx"]) | st.text(max_size=12)
_rule = st.dictionaries(st.sampled_from(["pull", "push", "pinned", "signed_by"]), _values, max_size=3)
_names = st.sampled_from(["nginx", "reg.io:5/a/b:1", f"reg.io/a/b@{_DIGEST}", "x.io/y", "DOCKER.IO:443/nginx"])


@given(st.dictionaries(_patterns, _rule | _values, max_size=3) | _values, _names)
def test_a_policy_is_read_or_refused_and_then_it_decides(rules: Any, name: str) -> None:
    try:
        policy = parse_policy(json.dumps({"rules": rules}).encode(), "p")
    except Invalid:
        return
    for ask in (decide.for_pull, decide.check_push):
        try:
            ask(policy, parse_reference(name))
        except Refused:
            continue


@given(st.text(max_size=30) | st.from_regex(r"(\*\.)?[a-z.:]{1,8}(/[a-z*]{1,3}){0,3}", fullmatch=True))
def test_a_pattern_that_is_read_is_for_what_is_named_like_it(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except Invalid:
        return
    name = text.replace("*.", "x.", 1) if text.startswith("*.") else text
    name = f"{name[:-1]}x" if name.endswith("/*") else "reg.io/x" if name == "*" else name
    assert decide.matches(pattern, parse_reference(name)), "the pattern's own name is one that it is for"


@given(_values | st.binary(max_size=60))
def test_what_lies_beside_an_image_is_read_or_refused(document: Any) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    for parse in (
        signature.parse_signatures,
        signature.parse_claim,
        signature.parse_referrers,
        signature.parse_referrer,
        signature.parse_bundle,
        signature.parse_statement,
    ):
        try:
            parse(data)
        except Invalid:
            continue
