"""All that the specification's `process` says of a process, seen from inside; and that nothing of the caller's is left on it."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import signal
import subprocess

import pytest
from sandbox_lab import Box, Limited, compile_c, end, finish, run_in

from bayplan.errors import BayplanError, Invalid, Kernel, Unavailable
from bayplan.kernel import capabilities, labels, sandbox
from bayplan.kernel.process import ProgramRefused
from bayplan.kernel.scheduling import parse_processors
from bayplan.model.capabilities import NAMES
from bayplan.model.runtime import Capabilities, CpuAffinity, IoPriority, Resources, Rlimit, Scheduler, User

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts")

# what /proc does not show of a process, or only where the kernel is built for it
PROBE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
struct attr { unsigned size, policy; unsigned long long flags; int nice; unsigned priority; unsigned long long times[3]; };
int main(int argc, char **argv) {
    struct attr attr = {0}; cpu_set_t set; struct itimerval timer; int death = -1;
    syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0);
    sched_getaffinity(0, sizeof set, &set);
    getitimer(ITIMER_REAL, &timer);
    prctl(PR_GET_PDEATHSIG, &death);
    printf("policy %u flags %llu nice %d priority %u times %llu/%llu/%llu\n", attr.policy, attr.flags, attr.nice, attr.priority,
           attr.times[0], attr.times[1], attr.times[2]);
    printf("ioprio %ld personality %x slack %d death %d timer %ld dumpable %d\n", syscall(SYS_ioprio_get, 1, 0),
           personality(0xffffffff), prctl(PR_GET_TIMERSLACK), death, (long)timer.it_value.tv_sec + timer.it_interval.tv_sec,
           prctl(PR_GET_DUMPABLE));
    printf("processors"); for (int i = 0; i < 1024; i++) if (CPU_ISSET(i, &set)) printf(" %d", i);
    printf("\nlimits"); for (int i = 0; i < 16; i++) { struct rlimit l; getrlimit(i, &l);
        printf(" %ld:%ld", (long)l.rlim_cur, (long)l.rlim_max); }
    printf("\nopen"); for (int i = 0; i < 64; i++) if (fcntl(i, F_GETFD) >= 0) printf(" %d", i);
    printf("\n");
    return 0;
}
"""
LIMITS = tuple(
    "RLIMIT_" + name
    for name in "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
)
ALL = " ".join(str(number) for number in sorted(os.sched_getaffinity(0)))


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    box = Box(tmp_path)
    compile_c(box.layer / "bin", "probe", PROBE)
    return box


def probe(box: Box, **fields: object) -> str:
    ended = box.run("/bin/probe", **fields)
    assert ended.status == 0, f"the program runs: {ended}"
    return ended.output


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Scheduler("SCHED_BATCH", nice=7), "policy 3 flags 0 nice 7 priority 0"),
        (Scheduler("SCHED_IDLE"), "policy 5 flags 0 nice 0"),
        (Scheduler("SCHED_OTHER", nice=-3), "policy 0 flags 0 nice -3"),
        (Scheduler("SCHED_FIFO", priority=10, flags=("SCHED_FLAG_RESET_ON_FORK",)), "policy 1 flags 1 nice 0 priority 10"),
        (Scheduler("SCHED_RR", priority=99), "policy 2 flags 0 nice 0 priority 99"),
        (Scheduler("SCHED_DEADLINE", runtime=10_000_000, deadline=20_000_000, period=30_000_000), "times 10000000/20000000/30000000"),
    ],
    ids=lambda value: value.policy if isinstance(value, Scheduler) else "",
)
def test_the_scheduler_is_as_asked_for(box: Box, wanted: Scheduler, expected: str) -> None:
    try:
        output = probe(box, scheduler=wanted, user=User(username="1000:1000"))
    except Kernel as error:
        assert wanted.policy == "SCHED_DEADLINE" and "process.scheduler" in str(error), "only a deadline may find no room on a host"
        return
    assert expected in output, "policy, flags, nice value, priority and times, though the user may not set them"


@pytest.mark.parametrize(
    "wanted",
    [
        Scheduler("SCHED_FAST"),
        Scheduler("SCHED_OTHER", nice=20),
        Scheduler("SCHED_OTHER", priority=1),
        Scheduler("SCHED_FIFO", nice=1, priority=1),
        Scheduler("SCHED_BATCH", runtime=1),
        Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_FAST",)),
        Scheduler("SCHED_FIFO", priority=100),
    ],
    ids=str,
)
def test_a_scheduler_that_makes_no_sense_is_refused_by_name(box: Box, wanted: Scheduler) -> None:
    with pytest.raises(BayplanError, match=r"process\.scheduler"):
        box.run("true", scheduler=wanted)


def test_the_io_priority_is_as_asked_for(box: Box) -> None:
    assert f"ioprio {2 << 13 | 3} " in probe(box, io_priority=IoPriority("IOPRIO_CLASS_BE", 3)), "class and level"
    assert f"ioprio {1 << 13 | 0} " in probe(box, io_priority=IoPriority("IOPRIO_CLASS_RT"), user=User(5, 5)), "though the user may not"
    for wrong in (IoPriority("IOPRIO_CLASS_NOW"), IoPriority("IOPRIO_CLASS_BE", 8), IoPriority("")):
        with pytest.raises(Invalid, match=r"process\.ioPriority"):
            box.run("true", io_priority=wrong)


def test_nothing_that_the_caller_set_for_itself_is_inherited(box: Box) -> None:
    """In a child of its own: what is set here could not be undone without privileges that the test's host may lack."""
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, 5)
            libc.syscall(251 if os.uname().machine == "x86_64" else 30, 1, 0, 3 << 13)  # ioprio_set, idle
            libc.personality(0x0040000)  # ADDR_NO_RANDOMIZE
            libc.prctl(29, 123456789, 0, 0, 0)
            libc.prctl(1, int(signal.SIGUSR1), 0, 0, 0)  # death of the parent
            signal.setitimer(signal.ITIMER_REAL, 1000)
            pathlib.Path("/proc/self/coredump_filter").write_text("0x7f")
            os.umask(0o077)
            os.write(writer, (probe(box) + box.sh("cat /proc/self/coredump_filter; umask")).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        output = file.read()
    os.waitpid(child, 0)
    assert "policy 0 flags 0 nice 0 priority 0" in output, "scheduled like any other"
    assert "ioprio 0 personality 0 slack 50000 death 0 timer 0 dumpable 1" in output, "reset, each of them"
    assert f"processors {ALL}\n" in output, "all processors, though the caller had one"
    assert output.endswith("00000033\n0022\n"), "the kernel's usual choice of what a core has, and the usual umask"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_an_executed_process_has_the_final_affinity_and_process_1_none_of_it(box: Box) -> None:
    one, two = sorted(os.sched_getaffinity(0))[:2]
    affinity = CpuAffinity(initial=str(one), final=f"{two}")
    assert f"processors {ALL}\n" in probe(box, cpu_affinity=affinity), "it is not for a container's first process"
    started = box.background("sleep", "60")
    try:
        assert f"processors {two}\n" in run_in(started.pid, "/bin/probe", cpu_affinity=affinity).output, "the final one"
        initial = run_in(started.pid, "/bin/probe", cpu_affinity=CpuAffinity(initial=str(one)))
        assert f"processors {one}\n" in initial.output, "the initial one stays where there is no final one"
        assert f"processors {ALL}\n" in run_in(started.pid, "/bin/probe").output, "reset where nothing is said"
        for wrong in ("x", "1-", "3-1", "-1", "0,,1", "9999", "٣"):
            with pytest.raises(Invalid, match=r"execCPUAffinity\.final"):
                run_in(started.pid, "true", cpu_affinity=CpuAffinity(final=wrong))
        with pytest.raises(Kernel, match=r"execCPUAffinity\.initial to 8000"):
            run_in(started.pid, "true", cpu_affinity=CpuAffinity(initial="8000"))
    finally:
        end(started)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_the_reset_affinity_keeps_to_the_containers_cpuset(box: Box) -> None:
    one = sorted(os.sched_getaffinity(0))[1]
    with Limited(Resources(cpuset_cpus=str(one))) as cgroup:
        assert f"processors {one}\n" in probe(box, cgroup=cgroup), "the cpuset's processors and no others"


@pytest.mark.parametrize(
    ("text", "expected"), [("0", {0}), ("0-2,4", {0, 1, 2, 4}), ("7,5-5", {5, 7}), ("0, 2", {0, 2})]
)
def test_a_list_of_processors_is_read_as_the_kernel_writes_it(text: str, expected: set[int]) -> None:
    assert parse_processors(text) == expected, "numbers and ranges"


def test_the_personality_is_as_asked_for(box: Box) -> None:
    assert "personality 8 " in probe(box, linux={"personality": "LINUX32"}), "a 32-bit system's"
    assert "personality 0 " in probe(box, linux={"personality": "LINUX"}), "the usual one"
    if os.uname().machine == "x86_64":
        assert box.sh("uname -m", linux={"personality": "LINUX32"}).strip() == "i686", "as programs see it"
    with pytest.raises(Invalid, match=r"linux\.personality\.domain 'BSD'"):
        box.run("true", linux={"personality": "BSD"})


def test_all_sixteen_limits_can_be_lowered(box: Box) -> None:
    values = [1000 + number for number in range(16)]
    values[2] = values[3] = values[9] = 64 << 20  # less memory than this would be too little for a program
    values[7] = 20
    hard = [min(value * 2, most) if most >= 0 else value * 2 for value, most in zip(values, own_hard_limits())]
    soft = [min(value, most) for value, most in zip(values, hard)]
    output = probe(box, rlimits=tuple(Rlimit(*row) for row in zip(LIMITS, soft, hard)))
    expected = " ".join(f"{low}:{high}" for low, high in zip(soft, hard))
    assert f"limits {expected}\n" in output, "each soft and each hard one, those of memory too"


def own_hard_limits() -> list[int]:
    import resource

    return [resource.prlimit(0, number)[1] for number in range(16)]


def test_limits_that_this_interpreter_could_not_live_with_reach_the_program(box: Box) -> None:
    tiny = {"NOFILE": 3, "AS": 4 << 20, "DATA": 1 << 20, "STACK": 1 << 18, "NPROC": 0, "FSIZE": 0}
    output = probe(box, rlimits=tuple(Rlimit(f"RLIMIT_{name}", value, value) for name, value in tiny.items()))
    assert "open 0 1 2\n" in output, "three open files are all that a program needs"


@pytest.mark.parametrize(
    ("rlimits", "message"),
    [
        ((Rlimit("RLIMIT_CORE", 2, 1),), "soft limit of RLIMIT_CORE, 2, is above the hard one, 1"),
        ((Rlimit("RLIMIT_CORE", -1, 1),), "soft limit of RLIMIT_CORE"),
        ((Rlimit("RLIMIT_CORE", 0, 0), Rlimit("RLIMIT_CORE", 1, 1)), "RLIMIT_CORE more than once"),
        ((Rlimit("RLIMIT_NOFILE", 1 << 40, 1 << 40),), "RLIMIT_NOFILE to .* needs CAP_SYS_RESOURCE .*fs.nr_open"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(box: Box, rlimits: tuple[Rlimit, ...], message: str) -> None:
    with pytest.raises(BayplanError, match=message):
        box.run("true", rlimits=rlimits)


def masks(output: str) -> dict[str, int]:
    return {name: int(value, 16) for name, value in re.findall(r"Cap(\w+):\t(\w+)", output)}


def test_the_five_sets_are_exactly_those_given(box: Box) -> None:
    kill, chown, raw = "CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"
    wanted = Capabilities((kill, chown, raw), (kill,), (kill, chown), (kill, chown), (chown,))
    bit = {name: 1 << NAMES.index(name) for name in (kill, chown, raw)}
    sets = masks(box.run("cat", "/proc/self/status", capabilities=wanted, user=User(1000, 1000)).output)
    assert sets["Bnd"] == sum(bit.values()) and sets["Inh"] == bit[kill] | bit[chown], "bounding and inheritable"
    assert sets["Amb"] == sets["Prm"] == sets["Eff"] == bit[chown], "a user's program has what is ambient"
    root = masks(box.run("cat", "/proc/self/status", capabilities=wanted._replace(ambient=())).output)
    assert root["Prm"] == root["Eff"] == sum(bit.values()), "root's program has what is in the bounding set (capabilities(7))"


def test_capabilities_that_cannot_be_granted_are_warned_of_and_left_out(box: Box) -> None:
    names = ("CAP_KILL", "CAP_FLY", "cap_chown", "CAP_SYS_RESOURCE")
    wanted = Capabilities(names, names, names, ("CAP_KILL",), ("CAP_KILL", "CAP_CHOWN", "CAP_FLY"))
    told = capabilities.ungranted(wanted)
    assert [sum(name in line for line in told) for name in ("CAP_FLY", "cap_chown")] == [1, 1], "each name once"
    assert not any("CAP_KILL" in line for line in told), "and nothing of what is granted"
    lost = capabilities.ungranted(Capabilities(("CAP_KILL",), ("CAP_KILL",), ("CAP_KILL",), (), ("CAP_KILL",)))
    assert len(lost) == 1 and "CAP_KILL is left out, as it is not both permitted and inheritable" in lost[0], "ambient ones have conditions"
    sets = masks(box.run("cat", "/proc/self/status", capabilities=wanted, user=User(1000, 1000)).output)
    assert sets["Amb"] == 1 << NAMES.index("CAP_KILL"), "what can be granted is"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Capabilities(("CAP_KILL",), ("CAP_KILL",)), "effective has CAP_KILL, which process.capabilities.permitted has not"),
        (Capabilities((), (), (), ("CAP_KILL",)), "inheritable has CAP_KILL, which process.capabilities.bounding has not"),
    ],
)
def test_sets_that_contradict_each_other_are_refused(box: Box, wanted: Capabilities, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        box.run("true", capabilities=wanted)


def run_preserving(box: Box, opened: list[int], count: int, *args: str, **fields: object) -> str:
    """In a child, whose descriptors from 3 on are copies of `opened`; the output, or the error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            copies = [os.dup(fd) for fd in (writer, *opened)]
            high = [os.dup2(fd, 500 + index) for index, fd in enumerate(copies)]
            os.closerange(3, 500)
            for index, fd in enumerate(high[1:]):
                os.dup2(fd, 3 + index, inheritable=index % 2 == 0)
            null = os.dup2(os.open("/dev/null", os.O_RDONLY), 400)
            os.closerange(3 + len(opened), 400)
            config = box.config(*args, **fields)
            created = sandbox.create(config, box.rootfs, cgroup=None, stdio=(null, high[0], high[0]), preserve_fds=count)
            os.waitpid(sandbox.start(created).pid, 0)
        except BaseException as error:
            os.write(high[0], repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        output = file.read()
    os.waitpid(child, 0)
    return output


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_descriptors_are_passed_on_with_their_numbers(box: Box, count: int, init: bool) -> None:
    files = []
    for number in range(count + 2):
        (box.directory / f"file{number}").write_text(f"content {number}\n")
        files.append(os.open(box.directory / f"file{number}", os.O_RDONLY))
    last = 2 + count
    output = run_preserving(box, files, count, "sh", "-c", f"probe; cat <&3; cat <&{last}", init=init)
    for fd in files:
        os.close(fd)
    assert f"open {' '.join(str(fd) for fd in range(last + 1))}\n" in output, "those, the standard ones and no other"
    assert output.count("content 0\n") == 1 and f"content {count - 1}\n" in output, "each in its place"


def test_a_descriptor_to_pass_on_that_is_not_open_is_refused(box: Box) -> None:
    file = os.open("/etc/passwd", os.O_RDONLY)
    output = run_preserving(box, [file], 2, "true")
    os.close(file)
    assert "descriptor 4 is not open" in output, "instead of whatever the runtime opens under that number (CVE-2024-21626)"


def test_an_entered_process_gets_descriptors_too(box: Box) -> None:
    script = """
import os, sys
from bayplan.kernel import sandbox
from bayplan.model.runtime import Process
copy = os.dup2(os.open("/etc/hostname", os.O_RDONLY), 300); os.closerange(3, 300); os.dup2(copy, 3); os.close(copy)
created = sandbox.enter(int(sys.argv[1]), Process(("/bin/sh", "-c", "probe; cat <&3")), cgroup=None, stdio=(0, 1, 2), preserve_fds=1,
                        personality="LINUX32")
os.waitpid(sandbox.start(created).pid, 0)
"""
    import sys

    started = box.background("sleep", "60")
    command = [sys.executable, "-c", script, str(started.pid)]
    ended = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    end(started)
    assert "open 0 1 2 3\n" in ended.stdout and "personality 8 " in ended.stdout, f"the descriptor and the container's personality: {ended}"
    assert ended.stdout.endswith(pathlib.Path("/etc/hostname").read_text()), "and it is the file"


def test_what_the_trampoline_itself_meets_is_told(box: Box) -> None:
    with pytest.raises(ProgramRefused, match="argument list too long"):
        box.run("true", "x" * (1 << 20))
    with pytest.raises(Invalid, match=r"process\.env has 'PATH'"):
        box.run("true", env=("PATH",))
    assert box.sh("echo $HOME", env=("PATH=/bin", "HOME=")).strip() == "/", "an empty HOME is none"


def test_a_kernel_without_apparmor_or_selinux_refuses_what_needs_them(box: Box) -> None:
    if labels.has_selinux() or os.path.exists("/sys/module/apparmor"):
        pytest.skip("this kernel has one of them")
    with pytest.raises(Unavailable, match=r"process\.apparmorProfile is 'docker-default', but this kernel runs without AppArmor"):
        box.run("true", apparmor_profile="docker-default")
    with pytest.raises(Unavailable, match=r"process\.selinuxLabel is 's', but this kernel runs without SELinux"):
        box.run("true", selinux_label="s")
    with pytest.raises(Unavailable, match=r"linux\.mountLabel"):
        labels.mount_data("", kind="tmpfs", label="s")
    assert box.run("true", apparmor_profile="unconfined").status == 0, "no profile is what there is"


def test_the_umask_and_the_groups_are_as_asked_for(box: Box) -> None:
    output = box.sh("umask; id -G; grep Groups /proc/self/status", user=User(5, 6, (8, 7), umask=0o27))
    assert output.splitlines()[:2] == ["0027", "6 7 8"] and output.split()[-2:] == ["7", "8"], "exactly these"


def test_a_process_of_a_terminal_has_the_same(box: Box) -> None:
    config = box.config("/bin/probe", terminal=True, scheduler=Scheduler("SCHED_BATCH", nice=2))
    started = sandbox.start(sandbox.create(config, box.rootfs, cgroup=None, stdio=None))
    output = finish(started, started.terminal).output
    assert "policy 3 flags 0 nice 2" in output and "open 0 1 2\n" in output, "its scheduler and its three descriptors"
