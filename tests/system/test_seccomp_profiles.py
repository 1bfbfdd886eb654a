"""Custom seccomp profiles: our filters decide as those of libseccomp and of runc do, and the kernel runs them as they read."""

from __future__ import annotations

import json
import os
import pathlib
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import pytest
import seccomp_lab as lab

from bayplan.errors import Invalid
from bayplan.kernel import linux, seccomp
from bayplan.kernel.seccomp_table import ALLOWED, IPC_CALLS, SOCKET_CALLS
from bayplan.model.runtime import Seccomp, SyscallRule

pytestmark = [
    pytest.mark.skipif(linux.MACHINE != "x86_64", reason="libseccomp numbers calls by the machine's own, and the probe is x86-64's"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers and filters without no_new_privs take root"),
]
ENTRIES = ("x86_64", "i386", "x32")
TABLES = {entry: seccomp.numbers(entry) for entry in ENTRIES}
VALUES = (0, 1, 2, 5, 9, 16, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, (1 << 64) - 1)
# calls that neither runc nor a sleeping program needs
FREE = (
    "acct adjtimex bind chroot clock_settime connect delete_module getsockopt iopl kcmp keyctl listen mbind mincore mlockall msgget msgsnd "
    "personality quotactl reboot semget semop sendmmsg setdomainname sethostname settimeofday shmctl shmget socket swapon sync syslog "
    "umount2 uselib ustat vhangup bpf clone3 openat2 close_range process_madvise"
).split()


def random_rules(chooser: random.Random, names: Sequence[str]) -> Iterator[SyscallRule]:
    """Rules for some of `names`. Several for one call have conditions on one argument only: libseccomp loses some of the others."""
    left = list(names)
    chooser.shuffle(left)
    while left:
        chosen = tuple(left.pop() for _ in range(min(len(left), chooser.choice((1, 2, 5)))))
        for _ in range(chooser.choice((1, 1, 1, 3))):
            kind = chooser.choice([name for name in lab.ACTIONS if name != "SCMP_ACT_NOTIFY"])
            errno = chooser.choice((None, 0, 1, 38, 100)) if kind in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else None
            yield SyscallRule(chosen, kind, errno, random_args(chooser))
            if chooser.random() < 0.5:
                break


def random_args(chooser: random.Random) -> tuple[tuple[int, int, int, str], ...]:
    if chooser.random() < 0.4:
        return ()
    made = []
    for index in chooser.choice(((0,), (1,), (2,), (0, 1, 2), (1, 0), (1, 1))):
        made.append((index, chooser.choice(VALUES), chooser.choice(VALUES), chooser.choice(lab.OPERATORS)))
    return tuple(made)


def random_profile(chooser: random.Random, names: Sequence[str]) -> Seccomp:
    default = chooser.choice([name for name in lab.ACTIONS if name != "SCMP_ACT_NOTIFY"])
    errno = chooser.choice((None, 1, 38, 22)) if default in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else None
    listed = chooser.choice(((), ("x86_64",), ("x86_64", "i386"), ("x86_64", "i386", "x32"), ("x32",), ("i386",), ("aarch64",)))
    rules = tuple(random_rules(chooser, chooser.sample(list(names), chooser.choice((2, 10, min(60, len(names)))))))
    return Seccomp("custom", default, errno, tuple(lab.NAMES[name] for name in listed), rules)


def random_call(chooser: random.Random, profile: Seccomp) -> tuple[str, int, tuple[int, ...]]:
    entry = chooser.choice(ENTRIES)
    named = [TABLES[entry][name] for rule in profile.syscalls for name in rule.names if name in TABLES[entry]]
    odd = (chooser.getrandbits(32), 0xFFFFFFFF, 1 << 31, 1 << 30, chooser.randrange(480) | 1 << 30, 102, 117)
    number = chooser.choice(named) if named and chooser.random() < 0.7 else chooser.choice((chooser.randrange(480), *odd))
    width = 0xFFFFFFFF if entry == "i386" else (1 << 64) - 1
    return entry, number, tuple(chooser.choice((*VALUES, 3, 23)) & width for _ in range(3))


def overlapping(profile: Seccomp, entry: str, number: int) -> bool:
    """Whether libseccomp is known to lose some conditions of the call: several rules, and more than one argument or more than 32 bits,
    or such that nearly all arguments meet several of them."""
    rules = [rule.args for rule in profile.syscalls if rule.args and reached(rule, entry, number)]
    args = [arg for rule in rules for arg in rule]
    indices = {arg[0] for arg in args}
    several = len(rules) > 1 or len(indices) < len(args)
    odd = any(max(first, second) >> 32 or operator == "SCMP_CMP_NE" for _, first, second, operator in args)
    return several and (len(indices) > 1 or odd)


def reached(rule: SyscallRule, entry: str, number: int) -> bool:
    if entry == "i386" and number in (102, 117):
        return bool(set(rule.names) & {*SOCKET_CALLS, *IPC_CALLS})
    return number in {TABLES[entry].get(name) for name in rule.names}


def newer_than_runc_thinks(entry: str, number: int, highest: dict[str, int]) -> bool:
    """runc overlooks i386's own calls for sockets and IPC when it looks for the newest, and answers ENOSYS whatever their rule says."""
    multiplexed = {TABLES["i386"].get(name) for name in (*SOCKET_CALLS, *IPC_CALLS, "socketcall", "ipc")}
    return entry == "i386" and number in multiplexed and number > highest.get("i386", number)


def compare(profile: Seccomp, program: bytes, reference: lab.Reference, chooser: random.Random, count: int) -> int:
    machine, compared = lab.Machine(program), 0
    for _ in range(count):
        entry, number, args = random_call(chooser, profile)
        if overlapping(profile, entry, number) or newer_than_runc_thinks(entry, number, reference.highest):
            continue
        answer, expected = machine.ask(lab.AUDIT[entry], number, args)[0], reference.ask(lab.AUDIT[entry], number, args)
        if answer != expected and not reference.machine.asked_number:
            continue  # libseccomp 2.5 forgets to load the number in some filters of few calls for x86-64 and x32
        rules = [(rule.action, rule.errno, rule.args) for rule in profile.syscalls if reached(rule, entry, number)]
        assert answer == expected, f"{entry} {number:#x} {args}: {answer:#x} is libseccomp's {expected:#x}, for {rules}"
        compared += 1
    return compared


def test_random_profiles_decide_as_libseccomps_filters() -> None:
    library = lab.load_libseccomp()
    if library is None:
        pytest.skip("libseccomp is not installed (Debian: libseccomp2)")
    chooser, compared, refused = random.Random(20), 0, 0
    known = [name for name in sorted({*TABLES["x86_64"], *TABLES["i386"]}) if any(library.number(entry, name) >= 0 for entry in ENTRIES)]
    for _ in range(150):
        profile = random_profile(chooser, known)
        try:
            reference = library.decide(profile)
        except lab.Refused:
            refused += 1
            continue
        try:
            program = seccomp.filter_bytes(profile, (), machine="x86_64")
        except Invalid:
            refused += 1
            continue
        compared += compare(profile, program, reference, chooser, 150)
    assert compared > 10000 and refused < 60, f"the profiles say something: {compared} calls compared, {refused} profiles refused"


class Bundle:
    """A container of runc's that sleeps, for as long as the test looks at it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory, self.count = directory, 0
        (directory / "rootfs" / "bin").mkdir(parents=True)
        (directory / "rootfs" / "proc").mkdir()
        shutil.copy("/bin/busybox", directory / "rootfs" / "bin" / "busybox")
        subprocess.run(["runc", "spec"], cwd=directory, check=True)
        self.document = json.loads((directory / "config.json").read_text())
        self.document["process"].update(terminal=False, args=["/bin/busybox", "sleep", "60"])

    def filter(self, profile: Seccomp) -> bytes | None:
        """The filter that runc gives a container of this profile; None where it refuses."""
        self.count += 1
        name, pid_file = f"bayplan-seccomp-{os.getpid()}-{self.count}", self.directory / "pid"
        self.document["linux"]["seccomp"] = document_of(profile)
        (self.directory / "config.json").write_text(json.dumps(self.document))
        command = ["runc", "--root", str(self.directory / "state"), "run", "--detach", "--pid-file", str(pid_file), name]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.run(command, cwd=self.directory, timeout=60, **quiet).returncode:  # type: ignore[call-overload]
            return None
        try:
            return lab.installed_filter(int(pid_file.read_text()))
        finally:
            subprocess.run(["runc", "--root", str(self.directory / "state"), "delete", "--force", name], check=True, timeout=60)


def document_of(profile: Seccomp) -> dict[str, object]:
    rules = [
        {
            "names": list(rule.names),
            "action": rule.action,
            **({} if rule.errno is None else {"errnoRet": rule.errno}),
            "args": [{"index": i, "value": first, "valueTwo": second, "op": op} for i, first, second, op in rule.args],
        }
        for rule in profile.syscalls
    ]
    default = {} if profile.default_errno is None else {"defaultErrnoRet": profile.default_errno}
    return {"defaultAction": profile.default_action, **default, "architectures": list(profile.architectures), "syscalls": rules}


def test_random_profiles_decide_as_the_filters_that_runc_installs(tmp_path: pathlib.Path) -> None:
    if not shutil.which("runc") or not os.path.exists("/bin/busybox"):
        pytest.skip("runc and busybox are not installed (Debian: runc, busybox-static)")
    library = lab.load_libseccomp()
    if library is None:
        pytest.skip("libseccomp is not installed (Debian: libseccomp2)")
    bundle, chooser, compared = Bundle(tmp_path), random.Random(7), 0
    # names that runc's library does not know yet are passed over there
    needed = tuple(name for name in ALLOWED.split() if name not in FREE and any(library.number(entry, name) >= 0 for entry in ENTRIES))
    for _ in range(12):
        profile = random_profile(chooser, FREE)
        profile = profile._replace(syscalls=(*profile.syscalls, SyscallRule((*needed, "clone"), "SCMP_ACT_ALLOW")))
        try:
            program = seccomp.filter_bytes(profile, (), machine="x86_64")
        except Invalid:
            continue
        try:
            installed = bundle.filter(profile)
        except OSError as error:
            pytest.skip(f"this kernel does not show a process's filter: {error}")
        if installed:
            reference = lab.Reference(lab.Machine(installed), {})
            compared += compare(profile, program, reference, chooser, 1500)
    assert compared > 5000, "runc ran most of the profiles"


def test_the_kernel_runs_the_filters_as_they_read(tmp_path: pathlib.Path) -> None:
    """Every answer is made an error number of its own, so that no call does anything, whichever way it enters the kernel."""
    chooser = random.Random(3)
    for profile in (Seccomp(), *(random_profile(chooser, sorted(TABLES["x86_64"])) for _ in range(12))):
        try:
            program, meanings = lab.harmless(seccomp.filter_bytes(profile, ("CAP_SYS_ADMIN",), machine="x86_64"))
        except Invalid:
            continue
        calls = [random_call(chooser, profile) for _ in range(3000)]
        calls += [(entry, number, (0, 0, 0)) for entry in ENTRIES for number in TABLES[entry].values()]
        calls = [call for call in calls if call[1] not in lab.UNFILTERED]
        answers = lab.probe(tmp_path, program, calls)
        machine = lab.Machine(program)
        for (entry, number, args), answer in zip(calls, answers):
            expected = machine.ask(lab.AUDIT[entry], number, args)[0] & 0xFFF
            assert -answer == expected, f"{entry} {number:#x} {args}: {meanings.get(-answer)} is {meanings[expected]}"
