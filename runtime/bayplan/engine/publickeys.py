"""Public keys, and whether a signature is theirs: ECDSA, Ed25519 and RSA, as cosign makes them.

The curves are those of the library `ecdsa`, which is loaded where a policy asks for signatures and nowhere else: it is 60 ms of
start. It makes nothing secret here: to verify is to compute with what everybody may know. Sources: RFC 5280 section 4.1.2.7
(SubjectPublicKeyInfo), RFC 8410, RFC 8017 section 8.2.2, FIPS 186-5.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import partial

from bayplan.errors import Invalid
from bayplan.model import vendored
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIMIT = 16 << 10
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_EC, _ED25519, _RSA = (1, 2, 840, 10045, 2, 1), (1, 3, 101, 112), (1, 2, 840, 113549, 1, 1, 1)
# cosign hashes with SHA-256 whatever the curve, and since version 3 with what fits the curve.
_HASHES = {"NIST256p": ("sha256",), "NIST384p": ("sha256", "sha384"), "NIST521p": ("sha256", "sha512")}
_RSA_BITS = range(2048, 8193)
_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2, note 1


class PublicKey(NamedTuple):
    """A key as its policy names it, and `verifies(signature, data)`."""

    name: str
    verifies: Callable[[bytes, bytes], bool]


def parse_public_key(pem: str, name: str) -> PublicKey:
    """Read one PEM text of a SubjectPublicKeyInfo; raises Invalid, which calls the key `name`."""
    directory = vendored.reach()
    try:
        from ecdsa import der
        from ecdsa.errors import MalformedPointError
    except ImportError as error:
        raise Invalid(f"reading the public key {name}: the library ecdsa is not in {directory}") from error
    data = _armoured(pem, name)
    try:
        return PublicKey(name, _parse(data))
    except (der.UnexpectedDER, MalformedPointError, ValueError, LookupError) as error:
        raise Invalid(f"reading the public key {name}: it is not the key of an algorithm that is known here ({error})") from None


def _armoured(pem: str, name: str) -> bytes:
    lines = [line.strip() for line in pem.strip().splitlines()]
    if len(pem) > LIMIT or len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise Invalid(f"reading the public key {name}: it is not one PEM text of a PUBLIC KEY, as `cosign generate-key-pair` writes it")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"reading the public key {name}: what stands between its first and last line is not base64") from None


def _parse(data: bytes) -> Callable[[bytes, bytes], bool]:
    """Raises ValueError, LookupError and what the library does, for what is no key."""
    from ecdsa import VerifyingKey, der

    inside, rest = der.remove_sequence(data)
    algorithm, bits = der.remove_sequence(inside)
    oid, parameters = der.remove_object(algorithm)
    key, more = der.remove_bitstring(bits, 0)
    if rest or more:
        raise ValueError("something follows it")
    if oid == _RSA:
        return _rsa(key, parameters)
    if oid not in (_EC, _ED25519):
        raise ValueError(f"algorithm {'.'.join(map(str, oid))}")
    # Only by name: a curve that a key describes itself need not be what it looks like (CVE-2020-0601).
    found = VerifyingKey.from_der(data, valid_encodings=("uncompressed",), valid_curve_encodings=("named_curve",))
    return partial(_verifies_eddsa, found) if oid == _ED25519 else partial(_verifies_ecdsa, found, _HASHES[found.curve.name])


def _verifies_ecdsa(key: Any, hashes: tuple[str, ...], signature: bytes, data: bytes) -> bool:
    """The signature is strict DER. Of (r, s) and (r, n-s) both are good, as everywhere: nothing here is known by its signature."""
    from ecdsa.util import sigdecode_der

    return any(_holds(key.verify, signature, data, getattr(hashlib, each), sigdecode_der) for each in hashes)


def _verifies_eddsa(key: Any, signature: bytes, data: bytes) -> bool:
    return _holds(key.verify, signature, data)


def _holds(verify: Callable[..., Any], *arguments: Any) -> bool:
    """Whether the library says yes. It says no by many exceptions (a point at infinity is a TypeError), and all of them are a no."""
    from ecdsa import BadSignatureError
    from ecdsa.der import UnexpectedDER

    try:
        return verify(*arguments) is True
    except (BadSignatureError, UnexpectedDER, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        return False


def _rsa(key: bytes, parameters: bytes) -> Callable[[bytes, bytes], bool]:
    from ecdsa import der

    numbers, rest = der.remove_sequence(key)
    modulus, numbers = der.remove_integer(numbers)
    exponent, more = der.remove_integer(numbers)
    if rest or more or parameters != b"\x05\x00":
        raise ValueError("something follows it")
    if modulus.bit_length() not in _RSA_BITS or modulus % 2 == 0 or not 3 <= exponent < 1 << 32 or exponent % 2 == 0:
        raise ValueError(f"an RSA key of {modulus.bit_length()} bits and exponent {exponent}")
    return partial(_verifies_rsa, modulus, exponent)


def _verifies_rsa(modulus: int, exponent: int, signature: bytes, data: bytes) -> bool:
    """PKCS#1 v1.5. What should come out is made and compared whole: reading what does is where forgeries were possible."""
    length = (modulus.bit_length() + 7) // 8
    number = int.from_bytes(signature, "big")
    if len(signature) != length or number >= modulus:
        return False
    end = b"\0" + _SHA256_INFO + hashlib.sha256(data).digest()
    expected = b"\0\1" + b"\xff" * (length - 2 - len(end)) + end
    return pow(number, exponent, modulus).to_bytes(length, "big") == expected
