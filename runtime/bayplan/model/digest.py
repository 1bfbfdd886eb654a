"""Digests: the names of content (OCI image-spec 1.1, descriptor.md, "Digests")."""

from __future__ import annotations

from bayplan.errors import Invalid
from bayplan.model.value import NamedTuple

_HEX_DIGITS = {"sha256": 64, "sha512": 128}
_HEX = "0123456789abcdef"


class Digest(NamedTuple):
    """A checked digest: sha256 or sha512 and its lower-case digits, so both are safe as parts of a path."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The twelve digits that people are shown."""
        return self.hex[:12]


def parse_digest(text: object) -> Digest:
    """Read `sha256:HEX` or `sha512:HEX`; raises Invalid for anything else."""
    if not isinstance(text, str):
        raise Invalid("reading a digest: it is not a string")
    algorithm, colon, digits = text.partition(":")
    if not colon or len(digits) != _HEX_DIGITS.get(algorithm) or digits.strip(_HEX):
        raise Invalid(
            f"reading the digest {text[:150]!r}: it is not sha256: and 64 lower-case hexadecimal digits, or sha512: and 128"
        )
    return Digest(algorithm, digits)
