"""Who signed an image: found beside it in its repository, verified offline with keys that the policy has."""

from __future__ import annotations

from bayplan.errors import Invalid, NotFound, Refused
from bayplan.model import signature
from bayplan.model.policy import host_and_port, repository_of
from bayplan.model.reference import parse_reference
from bayplan.model.signature import Blob, Claim, Signed
from bayplan.model.value import TYPE_CHECKING
from bayplan.store import blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias, TypeVar

    from bayplan.engine.publickeys import PublicKey
    from bayplan.model.digest import Digest
    from bayplan.plan.policy import Required
    from bayplan.registry.remote import Remote

    T = TypeVar("T")

MOST = 100  # of each format: every one costs a request and some milliseconds for each key

Offered: TypeAlias = "tuple[Signed, Callable[[bytes], Claim]]"


def verify(remote: Remote, digest: Digest, required: Required, keys: Sequence[PublicKey]) -> None:
    """Return where enough of the keys have signed exactly this digest; raises Refused where not, which says what is there.

    Only the newest signatures are looked at, MOST of each format. What asking the registry raises comes through.
    """
    assert required.signers, "the policy asks for a signature"
    missing, faults = list(keys), list[str]()
    for signed, parse in _offered(remote, digest, faults):
        good = [key for key in missing if any(key.verifies(each, signed.data) for each in signed.signatures)]
        fault = _fault(signed, parse, digest, required) if good else "one by another key, or over something else"
        if fault:
            faults.append(fault)
            continue
        missing = [key for key in missing if key not in good]
        if not missing or not required.signers.all:
            return
    raise Refused(_refusal(digest, required, missing, faults))


def _fault(signed: Signed, parse: Callable[[bytes], Claim], digest: Digest, required: Required) -> str:
    """What is wrong with what a known signer claims; "" where nothing is. Read only now: before, it was anybody's."""
    try:
        claim = parse(signed.claim)
    except Invalid as error:
        return f"one that signs no image ({error})"
    if str(digest) not in claim.digests:
        return f"one for another image ({', '.join(sorted(claim.digests))[:80]})"
    if required.signers and required.signers.repository and not _is_for(claim, required):
        return f"one for another repository ({claim.repository[:80]!r})"
    return ""


def _is_for(claim: Claim, required: Required) -> bool:
    """Compared as the rules' patterns are: cosign writes index.docker.io where people write docker.io, or nothing."""
    try:
        said = parse_reference(claim.repository)
    except Invalid:
        return False
    wanted = required.reference
    return (host_and_port(said.registry), repository_of(said)) == (host_and_port(wanted.registry), repository_of(wanted))


def _refusal(digest: Digest, required: Required, missing: Sequence[PublicKey], faults: Sequence[str]) -> str:
    every = required.signers is not None and required.signers.all
    wanted = (" and " if every else " or ").join(key.name for key in missing)
    counted = [f"{faults.count(each)} times {each}" if faults.count(each) > 1 else each for each in dict.fromkeys(faults)]
    there = "; ".join(counted[:3]) if counted else "there is no signature beside it"
    return f"pulling {required.reference}: the policy {required.path} wants {digest} signed by the key {wanted}, and it is not: {there}" + (
        "; ..." if len(counted) > 3 else ""
    )


def _offered(remote: Remote, digest: Digest, faults: list[str]) -> Iterator[Offered]:
    """Everything that looks like a signature of the image; `faults` collects what cannot be read."""
    payloads: dict[Digest, bytes] = {}
    for each in _newest(_payloads(remote, digest, faults), faults):
        data = payloads.get(each.digest) or _fetched(remote, each, signature.PAYLOAD_LIMIT, faults)
        if data:
            payloads[each.digest] = data  # one key's signatures are all over the same payload
            yield Signed(data, (each.signature,), data), signature.parse_claim
    for name in _newest(_bundles(remote, digest, faults), faults):
        signed = _bundle(remote, name, faults)
        if signed:
            yield signed, signature.parse_statement


def _bundles(remote: Remote, digest: Digest, faults: list[str]) -> tuple[Digest, ...]:
    data = remote.referrers(digest)
    try:
        return signature.parse_referrers(data) if data else ()
    except Invalid as error:
        faults.append(f"a list that cannot be read ({error})")
        return ()


def _bundle(remote: Remote, name: Digest, faults: list[str]) -> Signed | None:
    try:
        manifest = blobs.verify(remote.manifest(str(name)).data, name, what="a signature's manifest")
        data = _fetched(remote, signature.parse_referrer(manifest), signature.BUNDLE_LIMIT, faults)
        return signature.parse_bundle(data) if data else None
    except (Invalid, NotFound) as error:
        faults.append(f"one that cannot be read ({error})")
        return None


def _payloads(remote: Remote, digest: Digest, faults: list[str]) -> tuple[Blob, ...]:
    try:
        return signature.parse_signatures(remote.manifest(f"{digest.algorithm}-{digest.hex}.sig").data)
    except NotFound:
        return ()
    except Invalid as error:
        faults.append(f"one that cannot be read ({error})")
        return ()


def _newest(found: tuple[T, ...], faults: list[str]) -> tuple[T, ...]:
    """The last ones, the newest first: cosign appends."""
    if len(found) > MOST:
        faults.append(f"{len(found) - MOST} older ones that were not looked at")
    return tuple(reversed(found[-MOST:]))


def _fetched(remote: Remote, blob: Blob, limit: int, faults: list[str]) -> bytes:
    """A small blob, verified; b"" where it is not what its descriptor says, or is too large."""
    if blob.size > limit:
        faults.append(f"one of {blob.size} bytes, over the limit of {limit}")
        return b""
    try:
        return blobs.verify(remote.blob(blob.digest, limit=limit), blob.digest, what="a signature's payload")
    except (Invalid, NotFound) as error:
        faults.append(f"one that cannot be read ({error})")
        return b""
