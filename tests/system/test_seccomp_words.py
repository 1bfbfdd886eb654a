"""Our default seccomp profile as other runtimes read it: what libseccomp makes of it, beside our own filter, call by call."""

from __future__ import annotations

import itertools

import pytest
import seccomp_lab as lab

from bayplan.kernel import seccomp
from bayplan.kernel.seccomp_table import NEWEST, numbers
from bayplan.kernel.seccomp_words import default_profile
from bayplan.model.capabilities import DEFAULT
from bayplan.model.capabilities import NAMES as CAPABILITIES
from bayplan.model.runtime import Seccomp

SETS = [(), tuple(DEFAULT), ("CAP_SYS_ADMIN",), tuple(CAPABILITIES)]
CLONE_FLAGS = [0, 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 17, 0x7E020011, 0x3D0F00]
ARGUMENTS = {
    "clone": CLONE_FLAGS,
    "socket": [1, 2, 10, 16, 17, 38, 39, 40, 41, 0, 0xFFFFFFFF],
    "personality": [0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000, 1],
}
SOFTENED = ("personality", "socket")  # refused with ENOSYS, see seccomp_words.py


@pytest.mark.parametrize("capabilities", SETS, ids=["none", "default", "admin", "all"])
def test_libseccomp_lets_through_what_our_own_filter_does(capabilities: tuple[str, ...]) -> None:
    library = lab.load_libseccomp()
    if library is None:
        pytest.skip("libseccomp is not installed (Debian: libseccomp2)")
    ours = lab.Machine(seccomp.filter_bytes(Seccomp(), capabilities, machine="x86_64"))
    theirs = library.decide(default_profile(capabilities, machine="x86_64"))
    compared = 0
    for entry in ("x86_64", "i386"):
        for name, number in numbers(entry).items():
            if library.number(entry, name) != number or name == "socketcall":
                continue
            for first in ARGUMENTS.get(name, [0]):
                wanted = ours.ask(lab.AUDIT[entry], number, (first,))[0]
                found = theirs.ask(lab.AUDIT[entry], number, (first,))
                assert (found == lab.ALLOW) == (wanted == lab.ALLOW), f"{entry} {name}({first:#x}) is {found:#x}, with us {wanted:#x}"
                if wanted != lab.ALLOW and name not in SOFTENED:
                    assert found == wanted, f"{entry} {name}({first:#x}) is refused with {found:#x}, by us with {wanted:#x}"
                compared += 1
    assert compared > 700, "nearly all calls are known to both"


@pytest.mark.parametrize("family", [38, 40])
def test_the_upper_half_of_an_argument_hides_nothing(family: int) -> None:
    library = lab.load_libseccomp()
    if library is None:
        pytest.skip("libseccomp is not installed (Debian: libseccomp2)")
    theirs = library.decide(default_profile(DEFAULT, machine="x86_64"))
    for upper, (call, first) in itertools.product((0, 1, 0xFFFFFFFF), (("socket", family), ("clone", 1 << 28))):
        found = theirs.ask(lab.AUDIT["x86_64"], numbers("x86_64")[call], (upper << 32 | first,))
        assert found != lab.ALLOW, f"{call} is refused by what the kernel will read, the lower half"


def test_a_call_that_nobody_knows_yet_does_not_exist() -> None:
    library = lab.load_libseccomp()
    if library is None:
        pytest.skip("libseccomp is not installed (Debian: libseccomp2)")
    theirs = library.decide(default_profile(DEFAULT, machine="x86_64"))._replace(highest={})  # crun has no stub of runc's
    for number in (NEWEST + 1, NEWEST + 100):
        assert theirs.ask(lab.AUDIT["x86_64"], number) == lab.ENOSYS, "so that libraries fall back"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_is_named_once_but_those_with_conditions(machine: str) -> None:
    profile = default_profile(DEFAULT, machine=machine)
    named = [name for rule in profile.syscalls if not rule.args for name in rule.names]
    assert len(named) == len(set(named)), "two rules for one call would be one too many"
    assert {"keyctl", "io_uring_setup", "mount"} <= set(profile.syscalls[1].names), "what is refused is named"
