"""Keys and signatures as cosign makes them, by openssl, and where cosign puts them in a registry."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from registry_lab import OCI, push_blob, push_manifest

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
ENVELOPE = "application/vnd.in-toto+json"
SIGNS = "https://sigstore.dev/cosign/sign/v1"
KINDS = {
    "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "p521": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "ed25519": ("-algorithm", "ED25519"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}


class Key(NamedTuple):
    """A pair of files: NAME.key and NAME.pub."""

    private: Path
    public: Path
    kind: str

    @property
    def pem(self) -> str:
        return self.public.read_text()

    def sign(self, data: bytes, *, digest: str = "sha256") -> bytes:
        """As `cosign sign-blob` does: over SHA-256 of the data; Ed25519 over the data itself."""
        source = self.private.with_suffix(".data")
        source.write_bytes(data)
        how = ["-rawin"] if self.kind == "ed25519" else ["-rawin", "-digest", digest]
        command = ["openssl", "pkeyutl", "-sign", "-inkey", str(self.private), "-in", str(source), *how]
        return subprocess.run(command, check=True, capture_output=True).stdout


def make_key(directory: Path, name: str, kind: str = "p256") -> Key:
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", *KINDS[kind], "-out", str(private)], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True, capture_output=True)
    return Key(private, public, kind)


def payload(digest: str, repository: str = "", **critical: Any) -> bytes:
    said = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": {**said, **critical}, "optional": None}).encode()


def tag_of(digest: str) -> str:
    return f"{digest.replace(':', '-')}.sig"


def layer(host: str, repository: str, data: bytes, signature: bytes, **changed: Any) -> dict[str, Any]:
    """A payload in the registry, and the descriptor of it that has the signature."""
    annotations = {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()}
    return {"mediaType": PAYLOAD, "digest": push_blob(host, repository, data), "size": len(data), "annotations": annotations, **changed}


def push_signatures(host: str, repository: str, digest: str, layers: Sequence[Mapping[str, Any]]) -> None:
    """What `cosign sign` leaves: the manifest at the tag of the image's digest."""
    config = push_blob(host, repository, b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", "digest": config, "size": 2},
        "layers": list(layers),
    }
    push_manifest(host, repository, tag_of(digest), document)


def sign(host: str, repository: str, digest: str, *keys: Key) -> None:
    """Sign an image with keys, one signature each."""
    data = payload(digest, f"{host}/{repository}")
    push_signatures(host, repository, digest, [layer(host, repository, data, key.sign(data)) for key in keys])


def statement(digest: str, *, name: str = "", predicate: str = SIGNS) -> bytes:
    algorithm, _, digits = digest.partition(":")
    subject = {"name": name, "digest": {algorithm: digits}, "annotations": {}}
    said = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": predicate, "predicate": {}}
    return json.dumps(said).encode()


def bundle(data: bytes, key: Key) -> bytes:
    """A statement in its envelope, signed over DSSE's pre-authentication encoding."""
    signature = key.sign(b"DSSEv1 %d %s %d %s" % (len(ENVELOPE), ENVELOPE.encode(), len(data), data))
    envelope = {
        "payload": base64.b64encode(data).decode(),
        "payloadType": ENVELOPE,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    document = {"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []}, "dsseEnvelope": envelope}
    return json.dumps(document).encode()


def push_bundles(host: str, repository: str, digest: str, bundles: Sequence[bytes]) -> None:
    """Referrers of the image, listed at the tag of its digest: this registry has no list of its own."""
    manifests = []
    for each in bundles:
        document = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "artifactType": BUNDLE,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": push_blob(host, repository, b"{}"), "size": 2},
            "layers": [{"mediaType": BUNDLE, "digest": push_blob(host, repository, each), "size": len(each)}],
            "subject": {"mediaType": f"{OCI}.manifest.v1+json", "digest": digest, "size": 1},
        }
        name = push_manifest(host, repository, f"bundle-{len(manifests)}", document)
        manifests.append(
            {"mediaType": f"{OCI}.manifest.v1+json", "digest": name, "size": len(json.dumps(document)), "artifactType": BUNDLE}
        )
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
    push_manifest(host, repository, digest.replace(":", "-"), index)
