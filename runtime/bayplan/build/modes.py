"""--chmod of COPY and ADD: octal, or symbolic as chmod(1) has it."""

from __future__ import annotations

import re

from bayplan.errors import Invalid

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_STEP = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def change(mode: int, wanted: str, *, directory: bool) -> int:
    """`mode` (the twelve bits of it) after the change; raises Invalid."""
    if re.fullmatch(r"[0-7]{1,5}", wanted):
        number = int(wanted, 8)
        if number > 0o7777:
            raise Invalid(f"--chmod={wanted}: it is no mode")
        return number
    for clause in wanted.split(","):
        found = _CLAUSE.fullmatch(clause)
        if not found:
            raise Invalid(f"--chmod={wanted}: it is neither octal (755) nor symbolic (u=rwX,go=rX)")
        for sign, rights in _STEP.findall(found[2]):
            mode = _apply(mode, found[1] or "a", sign, rights, directory=directory)
    return mode


def _apply(mode: int, who: str, sign: str, rights: str, *, directory: bool) -> int:
    classes = "ugo" if "a" in who else who
    mask = sum(7 << _SHIFTS[each] for each in set(classes))
    special = (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    bits = _bits(mode, rights, directory=directory)
    wanted = sum(bits << _SHIFTS[each] for each in set(classes))
    if "s" in rights:
        wanted |= special
    if "t" in rights:
        wanted |= 0o1000
    if sign == "+":
        return mode | wanted
    if sign == "-":
        return mode & ~wanted
    return mode & ~(mask | (0 if directory else special)) | wanted


def _bits(mode: int, rights: str, *, directory: bool) -> int:
    if rights in ("u", "g", "o"):
        return mode >> _SHIFTS[rights] & 7
    found = sum(_BITS[right] for right in set(rights) if right in _BITS)
    return found | 1 if "X" in rights and (directory or mode & 0o111) else found
