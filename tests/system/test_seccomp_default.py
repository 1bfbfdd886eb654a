"""Our default seccomp filter beside the profile that containers-common publishes, call by call."""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import NamedTuple

import pytest
import seccomp_lab as lab

from bayplan.kernel import linux, seccomp
from bayplan.model.capabilities import DEFAULT
from bayplan.model.capabilities import NAMES as CAPABILITIES
from bayplan.model.runtime import Seccomp, SyscallRule

PUBLISHED = pathlib.Path("/usr/share/containers/seccomp.json")
ENTRIES = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}
GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
SETS = [(), tuple(DEFAULT), *((name,) for name in CAPABILITIES), tuple(CAPABILITIES)]

pytestmark = pytest.mark.skipif(not PUBLISHED.exists(), reason=f"{PUBLISHED} is missing (Debian: golang-github-containers-common)")


class Difference(NamedTuple):
    """Calls that only one of the two lets through, for a process with capabilities of which `when` holds."""

    reason: str
    ours: bool
    names: str
    when: Callable[[frozenset[str]], bool] = lambda _: True


def lacking(*capabilities: str) -> Callable[[frozenset[str]], bool]:
    return lambda granted: not granted & set(capabilities)


def having(*capabilities: str, without: tuple[str, ...] = ()) -> Callable[[frozenset[str]], bool]:
    return lambda granted: bool(granted & set(capabilities)) and not granted & set(without)


# every difference in which calls are let through, in its one place
DIFFERENCES = (
    Difference("the key ring is not divided into namespaces", False, "keyctl"),
    Difference(
        "mounts and namespaces are for administrators: Podman lets users make user namespaces inside, whose kernel code was attacked most",
        False,
        "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root setns umount umount2 unshare",
        lacking("CAP_SYS_ADMIN"),
    ),
    Difference("clone3's flags are out of sight; ENOSYS has libraries use clone", False, "clone3", lacking("CAP_SYS_ADMIN")),
    Difference("the kernel's log is for whom it is granted", False, "syslog", lacking("CAP_SYS_ADMIN", "CAP_SYSLOG")),
    Difference("reboot is for whom it is granted", False, "reboot", lacking("CAP_SYS_BOOT")),
    Difference("another process's descriptors are for a tracer", False, "pidfd_getfd", lacking("CAP_SYS_PTRACE")),
    Difference("placing memory on nodes touches other containers", False, "get_mempolicy mbind set_mempolicy", lacking("CAP_SYS_NICE")),
    Difference("gone since Linux 2.6", False, "query_module", having("CAP_SYS_MODULE")),
    Difference("Docker's profile lets these through, and programs use them", True, "vmsplice io_pgetevents io_pgetevents_time64"),
    Difference("a capability of its own since Linux 5.8", True, "bpf", having("CAP_BPF", without=("CAP_SYS_ADMIN",))),
    Difference("a capability of its own since Linux 5.8", True, "perf_event_open", having("CAP_PERFMON", without=("CAP_SYS_ADMIN",))),
    Difference(
        "newer than the published file",
        True,
        "cachestat fchmodat2 file_getattr file_setattr futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat "
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack mseal removexattrat setxattrat statmount uretprobe",
    ),
    Difference("newer than the published file", True, "open_tree_attr quotactl_fd", having("CAP_SYS_ADMIN")),
    Difference("newer than the published file", True, "set_mempolicy_home_node", having("CAP_SYS_NICE")),
)


def published(machine: str, granted: frozenset[str]) -> Seccomp:
    """The file's rules for this machine and these capabilities, as Podman picks them."""
    document = json.loads(PUBLISHED.read_text())
    rules = []
    for entry in document["syscalls"]:
        included, excluded = entry.get("includes") or {}, entry.get("excludes") or {}
        arches = included.get("arches") or [GO_NAMES[machine]]
        if not set(included.get("caps") or ()) <= granted or GO_NAMES[machine] not in arches:
            continue
        if set(excluded.get("caps") or ()) & granted or GO_NAMES[machine] in (excluded.get("arches") or ()):
            continue
        args = tuple((arg["index"], arg["value"], arg["valueTwo"], arg["op"]) for arg in entry.get("args") or ())
        rules.append(SyscallRule(tuple(entry["names"]), entry["action"], entry.get("errnoRet"), args))
    architectures = tuple(lab.NAMES[entry] for entry in (*ENTRIES[machine], *(["x32"] if machine == "x86_64" else [])))
    return Seccomp("custom", document["defaultAction"], document["defaultErrnoRet"], architectures, tuple(rules))


@pytest.mark.parametrize("machine", ENTRIES)
@pytest.mark.parametrize("capabilities", SETS, ids=lambda names: names[0] if len(names) == 1 else f"{len(names)} capabilities")
def test_the_calls_that_are_let_through_are_the_published_ones_but_for_what_is_listed(machine: str, capabilities: tuple[str, ...]) -> None:
    granted = frozenset(capabilities)
    ours = lab.Machine(seccomp.filter_bytes(Seccomp(), granted, machine=machine))
    theirs = lab.Machine(seccomp.filter_bytes(published(machine, granted), (), machine=machine))
    expected = {(name, each.ours) for each in DIFFERENCES if each.when(granted) for name in each.names.split()}
    for entry in ENTRIES[machine]:
        table, audit = seccomp.numbers(entry), lab.AUDIT[entry]
        found = {(name, ours.ask(audit, number)[0] == lab.ALLOW) for name, number in table.items() if differ(ours, theirs, audit, number)}
        assert found == {each for each in expected if each[0] in table}, f"a difference on {entry} has its reason in DIFFERENCES"


def differ(ours: lab.Machine, theirs: lab.Machine, audit: int, number: int) -> bool:
    return (ours.ask(audit, number)[0] == lab.ALLOW) != (theirs.ask(audit, number)[0] == lab.ALLOW)


@pytest.mark.parametrize("machine", ENTRIES)
def test_arguments_decide_as_published_but_for_namespaces_and_sockets_of_two_families(machine: str) -> None:
    ours = lab.Machine(seccomp.filter_bytes(Seccomp(), ("CAP_AUDIT_WRITE",), machine=machine))
    theirs = lab.Machine(seccomp.filter_bytes(published(machine, frozenset(["CAP_AUDIT_WRITE"])), (), machine=machine))
    chooser = random.Random(1)
    for entry in ENTRIES[machine]:
        table, audit = seccomp.numbers(entry), lab.AUDIT[entry]
        for _ in range(2000):
            random_value = chooser.choice((chooser.randrange(50), chooser.getrandbits(32), 1 << chooser.randrange(32)))
            value = chooser.choice((random_value, 0x20000, 0x20008, 0xFFFFFFFF))
            assert not differ_with(ours, theirs, audit, table["personality"], value), f"personality {value:#x}"
            if differ_with(ours, theirs, audit, table["clone"], value):
                assert value & 0x7E020000, f"clone with {value:#x} makes a namespace, which Podman lets users do"
            if differ_with(ours, theirs, audit, table["socket"], value):
                assert value in (38, 40), f"AF_ALG and AF_VSOCK reach the kernel's crypto and the hypervisor, {value} does not"
            if "socketcall" in table and differ_with(ours, theirs, audit, table["socketcall"], value):
                assert value == 1, "the family of socketcall(SYS_SOCKET) is out of sight"


def differ_with(ours: lab.Machine, theirs: lab.Machine, audit: int, number: int, value: int) -> bool:
    return (ours.ask(audit, number, (value,))[0] == lab.ALLOW) != (theirs.ask(audit, number, (value,))[0] == lab.ALLOW)


@pytest.mark.skipif(linux.MACHINE != "x86_64", reason="libseccomp numbers calls by the machine's own")
def test_the_published_profile_compiles_to_what_libseccomp_makes_of_it() -> None:
    library = lab.load_libseccomp()
    if library is None:
        pytest.skip("libseccomp is not installed (Debian: libseccomp2)")
    chooser = random.Random(5)
    for capabilities in ((), DEFAULT, CAPABILITIES):
        profile = published("x86_64", frozenset(capabilities))
        reference, machine = library.decide(profile), lab.Machine(seccomp.filter_bytes(profile, (), machine="x86_64"))
        for entry in ("x86_64", "i386", "x32"):
            for name, number in seccomp.numbers(entry).items():
                for args in [(), *(tuple(chooser.choice((0, 1, 8, 9, 16, 1 << 40, 0x20000)) for _ in range(3)) for _ in range(6))]:
                    args = tuple(value & 0xFFFFFFFF for value in args) if entry == "i386" else args
                    answer, expected = machine.ask(lab.AUDIT[entry], number, args)[0], reference.ask(lab.AUDIT[entry], number, args)
                    assert answer == expected, f"{name} of {entry} with {args}: {answer:#x} is libseccomp's {expected:#x}"


def test_a_call_takes_few_comparisons_by_either_profile() -> None:
    for profile in (Seccomp(), published("x86_64", frozenset(DEFAULT))):
        program = seccomp.filter_bytes(profile, DEFAULT, machine="x86_64")
        machine = lab.Machine(program)
        assert len(program) // 8 < 1500, "the program is far from the kernel's limit of 4096 instructions"
        for entry in ("x86_64", "i386"):
            steps = sorted(machine.ask(lab.AUDIT[entry], number)[1] for number in seccomp.numbers(entry).values())
            assert steps[len(steps) * 9 // 10] <= 15, f"a search tree answers {entry} in a logarithm of steps"
            assert steps[-1] <= 40, "and asks for arguments only where a call's rules have some: personality's have five values"


@pytest.mark.skipif(linux.MACHINE != "x86_64" or os.geteuid() != 0 or not shutil.which("gcc"), reason="the probe is x86-64's, and C")
def test_the_kernel_runs_the_default_filter_as_it_reads(tmp_path: pathlib.Path) -> None:
    chooser = random.Random(9)
    numbers = [(entry, number) for entry in ("x86_64", "i386", "x32") for number in {*seccomp.numbers(entry).values(), *range(480)}]
    calls = [(entry, number, args) for entry, number in numbers for args in ((0, 0, 0), (chooser.getrandbits(32), 1, 1 << 20))]
    calls = [call for call in calls if call[1] not in lab.UNFILTERED]
    for capabilities in ((), DEFAULT, CAPABILITIES):
        program, meanings = lab.harmless(seccomp.filter_bytes(Seccomp(), capabilities, machine="x86_64"))
        machine = lab.Machine(program)
        for (entry, number, args), answer in zip(calls, lab.probe(tmp_path, program, calls)):
            expected = machine.ask(lab.AUDIT[entry], number, args)[0] & 0xFFF
            assert -answer == expected, f"{entry} {number:#x} {args}: {meanings.get(-answer)} is {meanings[expected]}"
