"""Public keys and signatures: whose is whose, and what is nobody's."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

from signing_lab import KINDS, Key, make_key

from bayplan.engine.publickeys import PublicKey, parse_public_key
from bayplan.errors import Invalid

DATA = b"what was signed"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-5)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    directory = tmp_path_factory.mktemp("keys")
    return {kind: make_key(directory, kind, kind) for kind in KINDS}


def public(key: Key) -> PublicKey:
    return parse_public_key(key.pem, "k")


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_is_its_key_s_and_over_its_data_alone(keys: dict[str, Key], kind: str) -> None:
    signature = keys[kind].sign(DATA)
    assert public(keys[kind]).verifies(signature, DATA)
    assert not public(keys[kind]).verifies(signature, DATA + b" ")
    for other in set(KINDS) - {kind}:
        assert not public(keys[other]).verifies(signature, DATA), f"it is not that of the {other} key"


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_with_any_byte_changed_or_added_or_cut_off_is_nobody_s(keys: dict[str, Key], kind: str) -> None:
    key, signature = public(keys[kind]), keys[kind].sign(DATA)
    for place in range(0, len(signature), 7):
        changed = bytearray(signature)
        changed[place] ^= 0x11
        assert not key.verifies(bytes(changed), DATA)
    for changed in (b"", signature[:-1], signature + b"\0", b"\0" + signature, signature * 2):
        assert not key.verifies(bytes(changed), DATA)


@pytest.mark.parametrize(("kind", "digest"), [("p384", "sha384"), ("p521", "sha512")])
def test_a_larger_curve_s_own_hash_does_too(keys: dict[str, Key], kind: str, digest: str) -> None:
    assert public(keys[kind]).verifies(keys[kind].sign(DATA, digest=digest), DATA)


@pytest.mark.parametrize("digest", ["sha1", "sha512"])
def test_another_hash_does_not(keys: dict[str, Key], digest: str) -> None:
    assert not public(keys["p256"]).verifies(keys["p256"].sign(DATA, digest=digest), DATA)
    assert not public(keys["rsa"]).verifies(keys["rsa"].sign(DATA, digest=digest), DATA)


def integer(value: int, *, pad: bytes = b"") -> bytes:
    data = pad + value.to_bytes(max(1, (value.bit_length() + 8) // 8), "big")
    return b"\x02" + bytes([len(data)]) + data


def sequence(*parts: bytes, length: bytes | None = None) -> bytes:
    body = b"".join(parts)
    return b"\x30" + (length or bytes([len(body)])) + body


def halves(signature: bytes) -> tuple[int, int]:
    first = signature[3]
    return int.from_bytes(signature[4 : 4 + first], "big"), int.from_bytes(signature[6 + first :], "big")


def test_only_strict_der_within_the_curve_s_order_is_a_signature(keys: dict[str, Key]) -> None:
    key, signature = public(keys["p256"]), keys["p256"].sign(DATA)
    r, s = halves(signature)
    assert sequence(integer(r), integer(s)) == signature and key.verifies(signature, DATA)
    body = signature[2:]
    wrong = {
        "padded": sequence(integer(r, pad=b"\0"), integer(s)),
        "long length": b"\x30\x81" + signature[1:],
        "indefinite": b"\x30\x80" + body + b"\0\0",
        "inside trailing": sequence(body, b"\0"),
        "third number": sequence(body, integer(1)),
        "zero r": sequence(integer(0), integer(s)),
        "zero s": sequence(integer(r), integer(0)),
        "both zero": sequence(integer(0), integer(0)),
        "order": sequence(integer(ORDER), integer(ORDER)),
        "beyond": sequence(integer(r + ORDER), integer(s)),
        "beyond s": sequence(integer(r), integer(s + ORDER)),
        "negative": sequence(b"\x02\x01\xff", integer(s)),
        "empty number": sequence(b"\x02\x00", integer(s)),
        "raw": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
    }
    accepted = [name for name, each in wrong.items() if key.verifies(each, DATA)]
    assert not accepted, "these are no signatures"
    assert key.verifies(sequence(integer(r), integer(ORDER - s)), DATA), "the other root is as good, as everywhere"


def test_an_rsa_signature_s_padding_is_compared_whole(keys: dict[str, Key]) -> None:
    """Those who read the padding instead took e = 3 signatures with rubbish behind the hash (CVE-2006-4339)."""
    import textwrap

    info = bytes.fromhex("3031300d060960864801650304020105000420")
    block = b"\0\1\xff\xff\xff\xff\xff\xff\xff\xff\0" + info + hashlib.sha256(DATA).digest()
    bits = 2048
    target = int.from_bytes(block + b"\0" * (bits // 8 - len(block)), "big")
    root = round(target ** (1 / 3)) if target.bit_length() < 900 else cube_root(target)
    modulus = (1 << bits) - 159
    spki = sequence_long(
        bytes.fromhex("300d06092a864886f70d0101010500"),
        b"\x03" + der_length(len(rsa_key(modulus, 3)) + 1) + b"\0" + rsa_key(modulus, 3),
    )
    lines = textwrap.wrap(base64.b64encode(spki).decode(), 64)
    key = parse_public_key("\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----"]), "k")
    forged = (root + 1).to_bytes(bits // 8, "big")
    assert pow(root + 1, 3).to_bytes(bits // 8, "big").startswith(block), "the forgery is what a careless reader takes"
    assert not key.verifies(forged, DATA)


def cube_root(number: int) -> int:
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


def der_length(length: int) -> bytes:
    return bytes([length]) if length < 128 else bytes([0x80 | (size := (length.bit_length() + 7) // 8)]) + length.to_bytes(size, "big")


def sequence_long(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"\x30" + der_length(len(body)) + body


def rsa_key(modulus: int, exponent: int) -> bytes:
    number = modulus.to_bytes(modulus.bit_length() // 8 + 1, "big")
    return sequence_long(b"\x02" + der_length(len(number)) + number, integer(exponent))


def written(directory: Path, *command: str) -> str:
    return subprocess.run(["openssl", *command], check=True, capture_output=True, text=True, cwd=directory).stdout


def test_what_is_no_public_key_is_refused_by_its_name(keys: dict[str, Key], tmp_path: Path) -> None:
    pem = keys["p256"].pem
    small = written(tmp_path, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
    (tmp_path / "small").write_text(small)
    explicit = written(tmp_path, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit")
    (tmp_path / "explicit").write_text(explicit)
    (tmp_path / "k1").write_text(written(tmp_path, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"))
    lines = pem.splitlines()
    wrong = {
        "empty": "",
        "private": keys["p256"].private.read_text(),
        "two keys": pem + keys["p384"].pem,
        "cut": "\n".join([*lines[:-2], lines[-1]]),
        "no base64": "\n".join([lines[0], "%%%", lines[-1]]),
        "rubbish": "\n".join([lines[0], "AAAA", lines[-1]]),
        "giant": "\n".join([lines[0], "A" * 20_000, lines[-1]]),
        "trailing": "\n".join([lines[0], base64.b64encode(base64.b64decode("".join(lines[1:-1])) + b"\0").decode(), lines[-1]]),
        "off the curve": "\n".join([lines[0], base64.b64encode(base64.b64decode("".join(lines[1:-1]))[:-1] + b"\0").decode(), lines[-1]]),
        "1024 bits": written(tmp_path, "pkey", "-in", "small", "-pubout"),
        "a curve of its own": written(tmp_path, "pkey", "-in", "explicit", "-pubout"),
        "a curve that cosign does not use": written(tmp_path, "pkey", "-in", "k1", "-pubout"),
    }
    for name, each in wrong.items():
        with pytest.raises(Invalid, match="reading the public key /k") as raised:
            parse_public_key(each, "/k")
        assert "PRIVATE" not in str(raised.value), name


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_is_in_a_key_or_a_signature_is_read_or_refused(data: bytes) -> None:
    text = base64.b64encode(data).decode() or "AA=="
    try:
        key = parse_public_key(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n", "k")
    except Invalid:
        return
    assert not key.verifies(data, DATA)


P256 = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----"""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=70).map(lambda data: b"\x30" + bytes([len(data)]) + data))
def test_whatever_calls_itself_a_signature_is_none(data: bytes) -> None:
    assert not parse_public_key(P256, "k").verifies(data, DATA)
