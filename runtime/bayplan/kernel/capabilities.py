"""The capability sets of a process (capabilities(7)), set exactly as a configuration says and as far as there are any to give."""

from __future__ import annotations

import errno

from bayplan.errors import Invalid
from bayplan.kernel import linux
from bayplan.model.capabilities import NAMES
from bayplan.model.runtime import Capabilities
from bayplan.model.value import NamedTuple


class Sets(NamedTuple):
    """The five sets as bit masks."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


def available_capabilities() -> int:
    """What this process could give: its permitted set within its bounding set."""
    bounding = 0
    for number in range(len(NAMES)):
        try:
            bounding |= linux.prctl(linux.PR_CAPBSET_READ, number) << number
        except OSError:
            break  # beyond the kernel's last capability
    return linux.capget()[1] & bounding


def ungranted(wanted: Capabilities) -> tuple[str, ...]:
    """What is left out of `wanted`, as sentences to warn with: config.md (process.capabilities) asks for a warning, not for a failure.

    Left out are names that are not known here or to this kernel, what this process cannot give, and ambient capabilities that
    are not both permitted and inheritable.
    """
    available = available_capabilities()
    given = frozenset(name for number, name in enumerate(NAMES) if available >> number & 1)
    names = dict.fromkeys(name for names in wanted for name in names if name not in given)
    lost = [name for name in wanted.ambient if name in given and not (name in wanted.permitted and name in wanted.inheritable)]
    return (
        *(f"process.capabilities: {name} is not known, or cannot be granted here, and is left out" for name in names),
        *(f"process.capabilities.ambient: {name} is left out, as it is not both permitted and inheritable" for name in lost),
    )


def grant(wanted: Capabilities) -> Sets:
    """The sets of `wanted` without what `ungranted` tells of. Invalid for sets that contradict each other: the kernel would refuse them."""
    available = available_capabilities()
    bounding, effective, permitted, inheritable, ambient = (_mask(names) & available for names in wanted)
    if excess := effective & ~permitted:
        raise Invalid(f"process.capabilities.effective has {_name(excess)}, which process.capabilities.permitted has not")
    if excess := inheritable & ~bounding:
        raise Invalid(f"process.capabilities.inheritable has {_name(excess)}, which process.capabilities.bounding has not")
    return Sets(bounding, effective, permitted, inheritable, ambient & permitted & inheritable)


def drop_bounding(kept: int) -> None:
    """Leave no more than `kept` in the bounding set; nothing gives a process and its children back what is dropped."""
    for number in range(64):
        if kept >> number & 1:
            continue
        try:
            linux.prctl(linux.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # beyond the kernel's last capability


def set_capabilities(sets: Sets) -> None:
    """Give this process all of `sets` but the bounding set. It must have them permitted (PR_SET_KEEPCAPS, after a change of user)."""
    linux.capset(sets.effective, sets.permitted, sets.inheritable)
    linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(len(NAMES)):
        if sets.ambient >> number & 1:
            linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number)


def _mask(names: tuple[str, ...]) -> int:
    return sum(1 << NAMES.index(name) for name in set(names) if name in NAMES)


def _name(excess: int) -> str:
    return next(name for number, name in enumerate(NAMES) if excess >> number & 1)
