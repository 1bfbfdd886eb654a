"""What a policy says of an image: the most specific rule that speaks of a thing decides it. Pure.

Specific rather than first: a JSON object has no order that every tool keeps, and a rule that is added for one repository must not
depend on where in the file it lands. Each key is decided by itself, so that a rule that allows a push leaves it to the wider ones
by whom the image has to be signed.
"""

from __future__ import annotations

from bayplan.errors import Refused
from bayplan.model.digest import Digest
from bayplan.model.policy import Pattern, Pins, Policy, Rule, Signers, host_and_port, repository_of
from bayplan.model.reference import Reference
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


class Required(NamedTuple):
    """What the image that a name leads to must meet: to have one of `digests` (where there are any), and to be signed."""

    reference: Reference
    path: str = ""
    digests: tuple[Digest, ...] = ()
    signers: Signers | None = None


def for_pull(policy: Policy, reference: Reference) -> Required:
    """What a pull must meet. Raises Refused for one that is denied by its name alone."""
    rules = matching(policy, reference)
    denied = _decider(rules, lambda rule: rule.pull or None)
    if denied and denied.pull == "deny":
        raise Refused(f"pulling {reference}: the policy {policy.path} denies pulls of {denied.pattern.text}")
    pinning = _decider(rules, lambda rule: rule.pinned)
    digests = _pinned(pinning.pinned, pinning, policy, reference) if pinning and pinning.pinned and pinning.pinned.required else ()
    signing = _decider(rules, lambda rule: rule.signed_by)
    signers = signing.signed_by if signing and signing.signed_by and signing.signed_by.keys else None
    return Required(reference, policy.path, digests, signers)


def check_push(policy: Policy, reference: Reference) -> None:
    """Raise Refused where pushes to the repository are denied."""
    rule = _decider(matching(policy, reference), lambda rule: rule.push or None)
    if rule and rule.push == "deny":
        raise Refused(f"pushing {reference}: the policy {policy.path} denies pushes to {rule.pattern.text}")


def check_digest(required: Required, digest: Digest) -> None:
    """Raise Refused where the digest that was found is none of those that are listed for the name."""
    if required.digests and digest not in required.digests:
        listed = ", ".join(str(each) for each in required.digests[:3]) + (", ..." if len(required.digests) > 3 else "")
        raise Refused(f"pulling {required.reference}: it is {digest} now, and the policy {required.path} lists {listed} for it")


def _pinned(pins: Pins, rule: Rule, policy: Policy, reference: Reference) -> tuple[Digest, ...]:
    """The digests that do; () where any does that the reference names itself."""
    listed = dict(pins.tags)
    digests = tuple(digest for each in listed.values() for digest in each) if reference.digest else listed.get(reference.tag or "", ())
    if reference.digest and (not listed or reference.digest in digests):
        return digests
    if reference.digest:
        raise Refused(f"pulling {reference}: the policy {policy.path} does not list this digest for {rule.pattern.text}")
    if not digests:
        raise Refused(
            f"pulling {reference}: the policy {policy.path} allows {rule.pattern.text} only by "
            f"{'the digests that it lists' if listed else 'digest'}: name the image as {reference.name}@sha256:..."
        )
    return digests


def matching(policy: Policy, reference: Reference) -> tuple[Rule, ...]:
    """The rules that are for the image, the most specific first."""
    found = [rule for rule in policy.rules if matches(rule.pattern, reference)]
    return tuple(sorted(found, key=lambda rule: _specificity(rule.pattern), reverse=True))


def matches(pattern: Pattern, reference: Reference) -> bool:
    host, port = host_and_port(reference.registry)
    if pattern.host == "*":
        return True
    if pattern.host.startswith("*."):
        return host.endswith(pattern.host[1:])
    if pattern.host != host or pattern.port not in ("", port or "443"):
        return False
    repository = repository_of(reference)
    return repository.startswith(f"{pattern.path}/" if pattern.path else "") if pattern.below else repository == pattern.path


def _specificity(pattern: Pattern) -> tuple[int, int, int, int]:
    """Of two patterns that match one image, one is greater: one repository, then the longer path, then a port, then the longer host."""
    exact = 0 if pattern.host.startswith("*") else 1
    depth = pattern.path.count("/") + 1 if pattern.path else 0
    return exact + (not pattern.below), depth, bool(pattern.port), len(pattern.host)


def _decider(rules: tuple[Rule, ...], said: Callable[[Rule], T | None]) -> Rule | None:
    """The first rule that says something."""
    return next((rule for rule in rules if said(rule) is not None), None)
