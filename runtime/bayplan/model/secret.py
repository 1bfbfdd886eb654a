"""Text that must not be shown."""

from __future__ import annotations


class Secret(str):
    """A string whose repr and format are `***`; `reveal` gives its text where it is used."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        return str.__str__(self)
