"""What sigstore's cosign leaves in a registry about an image: who signs what, in its two formats.

Simple signing: at the tag sha256-HEX.sig of the image's own repository a manifest, of which every layer is a payload that a
signature in the layer's annotation is over (cosign, specs/SIGNATURE_SPEC.md). Bundles: a referrer of the image that is a document
with a DSSE envelope around an in-toto statement (cosign, specs/BUNDLE_SPEC.md; DSSE's protocol.md; in-toto's Statement v1).
Whoever may push may write all of this, so it is hostile until a signature over it was found good.
"""

from __future__ import annotations

import base64
import binascii

from bayplan.errors import Invalid
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.document import Fields, load_object
from bayplan.model.image import MANIFEST_LIMIT, MANIFEST_TYPES, OCI_INDEX
from bayplan.model.value import NamedTuple

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
PAYLOAD_LIMIT = 64 << 10
BUNDLE_TYPES = "application/vnd.dev.sigstore.bundle."
BUNDLE_LIMIT = 1 << 20
_SIGNATURE = "dev.cosignproject.cosign/signature"
_SIGNATURE_LIMIT = 4096  # base64 of the longest RSA signature that is accepted is a third of it
_LAYERS_LIMIT = 10_000
_REFERRERS_LIMIT = 1000
_CLAIM = "cosign container image signature"
_STATEMENT = "https://in-toto.io/Statement/v"
_SIGNS = "https://sigstore.dev/cosign/sign/v1"  # other predicates state something about an image, and do not vouch for it
_ENVELOPE = "application/vnd.in-toto+json"


class Blob(NamedTuple):
    """A small document in the same repository, and the signature that is beside its descriptor (b"" for a bundle)."""

    digest: Digest
    size: int
    signature: bytes = b""


class Signed(NamedTuple):
    """Bytes, and the signatures that are said to be over them; `claim` is the document in which the signer makes his claim."""

    data: bytes
    signatures: tuple[bytes, ...]
    claim: bytes


class Claim(NamedTuple):
    """What a signer says: these digests are images that he signs; in this repository, as a reference says it ("" if he does not)."""

    digests: frozenset[str]
    repository: str


def parse_signatures(data: bytes) -> tuple[Blob, ...]:
    """The payloads that the manifest of a signature's tag names, in its order (the oldest first). Raises Invalid."""
    fields = _manifest(data)
    found = []
    for each in fields.objects("layers", limit=_LAYERS_LIMIT):
        if each.string("mediaType") == PAYLOAD_TYPE:
            found.append(_blob(each)._replace(signature=_signature(each.member("annotations").string(_SIGNATURE))))
    return tuple(found)


def _signature(text: str) -> bytes:
    """b"", which is nobody's signature, for what is none: one bad entry must not hide the good ones."""
    try:
        return _base64(text, "a signature") if len(text) <= _SIGNATURE_LIMIT else b""
    except Invalid:
        return b""


def parse_claim(data: bytes) -> Claim:
    """Read a simple signing payload; raises Invalid for one that claims something else."""
    critical = load_object(data, PAYLOAD_LIMIT, "a signature's payload").member("critical")
    if critical.string("type") != _CLAIM:
        raise Invalid(f"reading a signature's payload: its type is {critical.string('type')[:80]!r}, not {_CLAIM!r}")
    digest = parse_digest(critical.member("image").string("docker-manifest-digest"))
    return Claim(frozenset((str(digest),)), critical.member("identity").string("docker-reference"))


def parse_referrers(data: bytes) -> tuple[Digest, ...]:
    """The manifests of bundles in an index of referrers. Raises Invalid."""
    fields = load_object(data, MANIFEST_LIMIT, "an index of referrers")
    if fields.string("mediaType") not in ("", OCI_INDEX):
        raise Invalid("reading an index of referrers: it is none")
    listed = fields.objects("manifests", limit=_REFERRERS_LIMIT)
    return tuple(parse_digest(each.string("digest")) for each in listed if each.string("artifactType").startswith(BUNDLE_TYPES))


def parse_referrer(data: bytes) -> Blob:
    """The one bundle that a referrer's manifest holds. Raises Invalid."""
    layers = [each for each in _manifest(data).objects("layers", limit=1) if each.string("mediaType").startswith(BUNDLE_TYPES)]
    if not layers:
        raise Invalid("reading a referrer: it holds no bundle")
    return _blob(layers[0])


def parse_bundle(data: bytes) -> Signed:
    """Read a bundle around a statement (Invalid for another); what is signed of it is DSSE's pre-authentication encoding."""
    fields = load_object(data, BUNDLE_LIMIT, "a bundle")
    envelope = fields.member("dsseEnvelope")
    if envelope.string("payloadType") != _ENVELOPE:
        raise Invalid("reading a bundle: it holds no DSSE envelope of an in-toto statement")
    payload = _base64(envelope.string("payload"), "a bundle's payload")
    signatures = tuple(_base64(each.string("sig"), "a bundle's signature") for each in envelope.objects("signatures", limit=4))
    return Signed(b"DSSEv1 %d %s %d %s" % (len(_ENVELOPE), _ENVELOPE.encode(), len(payload), payload), signatures, payload)


def parse_statement(data: bytes) -> Claim:
    """Read an in-toto statement by which somebody signs; raises Invalid for one that states something else."""
    fields = load_object(data, BUNDLE_LIMIT, "a statement")
    if not fields.string("_type").startswith(_STATEMENT) or fields.string("predicateType") != _SIGNS:
        raise Invalid(f"reading a statement: it is of {fields.string('predicateType')[:100]!r}, which signs nothing")
    subjects = tuple(fields.objects("subject", limit=100))
    digests = {f"{algorithm}:{digits}" for each in subjects for algorithm, digits in each.member("digest").values.items()}
    return Claim(frozenset(digests), subjects[0].string("name") if len(subjects) == 1 else "")


def _manifest(data: bytes) -> Fields:
    fields = load_object(data, MANIFEST_LIMIT, "a signature's manifest")
    if fields.string("mediaType") not in ("", *MANIFEST_TYPES) or "manifests" in fields.values:
        raise Invalid("reading a signature's manifest: it is none")
    return fields


def _blob(fields: Fields) -> Blob:
    return Blob(parse_digest(fields.string("digest")), fields.positive("size"))


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"reading {what}: it is not base64") from None
