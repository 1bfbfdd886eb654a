"""bayplan-oci keeps compiled seccomp filters: each found again for the profile that it was made of, and for no other."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import oci_lab
import pytest
from oci_lab import Lab

from bayplan.errors import Unavailable
from bayplan.kernel import linux, seccomp
from bayplan.model.runtime import Capabilities, Seccomp, SyscallRule
from bayplan.oci import filters

PROFILE = Seccomp("custom", "SCMP_ACT_ALLOW", syscalls=(SyscallRule(("getppid",), "SCMP_ACT_ERRNO", 5),))
NOTHING = Capabilities()
ROOT = pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/busybox").exists(), reason="needs root and busybox-static")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def kept(root: Path) -> list[Path]:
    return sorted((root / "@seccomp").iterdir())


def test_a_profile_is_compiled_once(root: Path) -> None:
    other = PROFILE._replace(syscalls=(SyscallRule(("getppid",), "SCMP_ACT_ERRNO", 6),))
    for profile in (PROFILE, other, PROFILE):
        expected = seccomp.filter_bytes(profile, (), machine=linux.MACHINE)
        assert filters.program(str(root), profile, NOTHING) == expected, "what is kept is what would be compiled"
    assert len(kept(root)) == 2, "a file for each profile"
    assert filters.program(str(root), None, NOTHING) == b"", "no profile is no filter"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (root / "@seccomp", *kept(root))]
    assert modes == [0o700, 0o600, 0o600], "nobody else reads or writes them"


def test_a_file_that_is_not_whole_is_made_again(root: Path) -> None:
    program = filters.program(str(root), PROFILE, NOTHING)
    (path,) = kept(root)
    whole = path.read_bytes()
    for content in (b"", whole[:40], whole[:-1], whole + b"x", bytes(len(whole))):
        path.write_bytes(content)
        assert filters.program(str(root), PROFILE, NOTHING) == program, "cut off, or changed"
    assert path.read_bytes() == whole, "and is whole again"


def test_old_filters_are_forgotten(root: Path) -> None:
    for number in range(130):
        filters.program(str(root), PROFILE._replace(syscalls=(SyscallRule(("getppid",), "SCMP_ACT_ERRNO", number),)), NOTHING)
    assert len(kept(root)) == 100, "profiles that changed do not fill the disk"


def test_a_place_that_cannot_be_written_is_said(root: Path) -> None:
    (root / "@seccomp").write_text("a file")
    with pytest.raises(Unavailable, match="@seccomp"):
        filters.program(str(root), PROFILE, NOTHING)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with oci_lab.lab(tmp_path) as found:
        yield found


@ROOT
def test_a_filter_from_the_shelf_filters(lab: Lab) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    change = {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}}
    for _ in range(2):
        done = lab.run("run", "--bundle", str(lab.bundle("mkdir", "/tmp/x", change=change)), "c1")
        assert "No space left on device" in done.stderr, f"compiled, and from the file: {done}"
    assert len(kept(lab.root)) == 1 and lab.ok("list", "--quiet") == "", "list does not take the shelf for a container"


@ROOT
def test_a_custom_profile_is_for_exec_as_well(lab: Lab) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    change = {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}}
    lab.create("c1", lab.bundle("sleep", "1000", change=change))
    lab.ok("start", "c1")
    assert "No space left on device" in lab.run("exec", "c1", "mkdir", "/tmp/x").stderr, "as with runc"
    assert json.loads(lab.ok("state", "c1"))["status"] == "running", "and it runs on"
