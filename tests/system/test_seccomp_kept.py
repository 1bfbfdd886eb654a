"""Compiled filters are kept in the state, and used for nothing but what they were made of."""

from __future__ import annotations

import os
import pathlib

import pytest

from bayplan.engine import filters
from bayplan.engine.state import State, open_state
from bayplan.kernel import linux, seccomp
from bayplan.model.capabilities import granted
from bayplan.model.runtime import Capabilities, Seccomp, SyscallRule

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a state's directories are root's")
PROFILE = Seccomp("custom", "SCMP_ACT_ALLOW", syscalls=(SyscallRule(("getppid",), "SCMP_ACT_ERRNO", 5),))


@pytest.fixture
def state(tmp_path: pathlib.Path) -> State:
    return open_state(str(tmp_path / "state"), create=True)


def kept(state: State) -> list[pathlib.Path]:
    return sorted(pathlib.Path(state.root.path, "filters").iterdir())


def test_a_profile_is_compiled_once_for_each_set_of_capabilities(state: State) -> None:
    sets = (granted(), granted(add=("SYS_ADMIN",)), Capabilities())
    for _ in range(2):
        for capabilities in sets:
            expected = seccomp.filter_bytes(Seccomp(), capabilities.effective, machine=linux.MACHINE)
            assert filters.of(state, Seccomp(), capabilities) == expected, "what was kept is what would be compiled"
    assert len(kept(state)) == len(sets), "one file for each"


def test_a_custom_profile_is_compiled_once_whatever_the_capabilities(state: State) -> None:
    other = PROFILE._replace(syscalls=(SyscallRule(("getppid",), "SCMP_ACT_ERRNO", 6),))
    for profile in (PROFILE, other, PROFILE):
        for capabilities in (granted(), Capabilities()):
            expected = seccomp.filter_bytes(profile, (), machine=linux.MACHINE)
            assert filters.of(state, profile, capabilities) == expected, "each profile has its own filter"
    assert len(kept(state)) == 2, "and one file"
    assert filters.of(state, None, granted()) == b"", "no profile is no filter"


def test_a_file_that_was_made_of_something_else_is_made_again(state: State) -> None:
    program = filters.of(state, PROFILE, granted())
    (path,) = kept(state)
    for content in (b"", b"another profile\0" + program, path.read_bytes()[:20], path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert filters.of(state, PROFILE, granted()) == program, "an old file, a file of a colliding name, one that was cut off"


def test_other_code_makes_another_filter(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    filters.of(state, PROFILE, granted())
    monkeypatch.setattr(filters, "_PACKAGE", f"/var/lib/bayplan/runtime/{'a' * 64}/bayplan")
    filters.of(state, PROFILE, granted())
    assert len(kept(state)) == 2, "a filter is of the runtime that compiled it"
    assert f"{'a' * 64} ".encode() in b"".join(path.read_bytes()[:65] for path in kept(state)), "which its digest tells"


def test_old_filters_are_forgotten(state: State) -> None:
    for number in range(130):
        filters.of(state, PROFILE._replace(syscalls=(SyscallRule(("getppid",), "SCMP_ACT_ERRNO", number),)), granted())
    assert len(kept(state)) == 100, "profiles that changed do not fill the disk"
