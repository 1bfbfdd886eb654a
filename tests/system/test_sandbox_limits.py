"""Control groups: limits hold from the first instruction, can be changed on a live container, and leave nothing."""

from __future__ import annotations

import os
import pathlib
import time

import pytest
from sandbox_lab import DEVICE_RULES, STATE, Box, Limited, close_pidfd, compile_c, end, run_in

from bayplan.errors import Invalid, Kernel, Unavailable
from bayplan.kernel import accounting, cgroups, device_filter, linux
from bayplan.model.runtime import DeviceRule, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for control groups")
LIMITS = Resources(
    memory_limit=64 << 20,
    memory_swap=64 << 20,
    cpu_shares=512,
    cpu_quota=50000,
    cpu_period=100000,
    pids_limit=20,
    devices=DEVICE_RULES,
)


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    return Box(tmp_path)


def read(cgroup: cgroups.Cgroup, controller: str, file: str) -> str:
    at = dict(cgroup.directories)
    return pathlib.Path(at[controller if cgroup.version == 1 else ""], file).read_text().strip()


def first_version() -> bool:
    return cgroups.observe_host().version == 1


def test_a_container_is_in_its_cgroup_and_sees_itself_as_the_root_of_it(box: Box) -> None:
    with Limited(LIMITS) as cgroup:
        started = box.background("sleep", "60", cgroup=cgroup)
        assert cgroups.pids(cgroup) == (started.pid,), "exactly the first process"
        inside = run_in(started.pid, "cat", "/proc/self/cgroup", cgroup=cgroup).output
        rows = dict(row.split(":")[1:] for row in inside.splitlines())
        assert rows["memory" if first_version() else ""] == "/", "its cgroup namespace starts there"
        end(started)


def test_a_process_limit_stops_a_fork_bomb(box: Box) -> None:
    with Limited(LIMITS) as cgroup:
        output = box.run(
            "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m; do sleep 1 & done; wait", cgroup=cgroup
        ).output
        assert "can't fork" in output or "temporarily" in output, f"the twentieth process is the last: {output}"


def test_a_memory_limit_kills_the_hog_and_counts_it(box: Box) -> None:
    with Limited(LIMITS._replace(memory_limit=32 << 20, memory_swap=32 << 20)) as cgroup:
        started = box.background("sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 60", cgroup=cgroup)
        path = pathlib.Path(cgroups.oom_path(cgroup))
        for _ in range(500):
            if "oom_kill 0" not in path.read_text():
                break
            time.sleep(0.01)
        assert "oom_kill 1" in path.read_text(), "the kernel's count, which the monitor reads"
        end(started)


def test_usage_is_measured(box: Box) -> None:
    with Limited(LIMITS) as cgroup:
        started = box.background("sleep", "60", cgroup=cgroup)
        used = accounting.read(cgroup)
        end(started)
    assert used.pids == (1, 20) and used.memory.usage.limit == 64 << 20, "tasks and the limits"
    assert used.memory.in_use and used.cpu.usage, "memory and processor time"


def test_limits_change_on_a_live_container_without_a_new_process(box: Box) -> None:
    host = cgroups.observe_host()
    with Limited(LIMITS) as cgroup:
        name = f"{STATE}/{cgroup.directories[0][1].rpartition('/')[2] if host.version == 1 else ''}"
        started = box.background("sleep", "60", cgroup=cgroup)
        for limit in (256 << 20, 48 << 20):
            wanted = LIMITS._replace(
                memory_limit=limit, memory_swap=2 * limit, pids_limit=-1, cpuset_cpus="0", cpu_quota=-1
            )
            cgroup = cgroups.update(host, cgroup, name, wanted)
            file = "memory.limit_in_bytes" if host.version == 1 else "memory.max"
            assert read(cgroup, "memory", file) == str(limit), "up and down"
        assert read(cgroup, "pids", "pids.max") == "max", "a limit is lifted"
        assert pathlib.Path(f"/proc/{started.pid}/status").read_text().count("Cpus_allowed_list:\t0\n") == 1, (
            "moved into the new cpuset"
        )
        assert cgroups.pids(cgroup) == (started.pid,), "the same process"
        end(started)
        cgroups.remove(cgroup)


def test_what_is_removed_is_gone_with_all_its_processes(box: Box) -> None:
    host = cgroups.observe_host()
    name = f"{STATE}/removed"
    cgroup = cgroups.create(host, name, Resources())
    started = box.background("sh", "-c", "for i in 1 2 3; do sleep 60 & done; wait", cgroup=cgroup)
    assert cgroups.find(host, name) and "removed" in cgroups.names(host, STATE), "found by name"
    cgroups.kill(cgroup)
    os.waitpid(started.pid, 0)
    close_pidfd(started)
    cgroups.remove(cgroup)
    cgroups.remove(cgroup)
    assert cgroups.find(host, name) is None and not cgroups.names(host, STATE), "and not found after"
    for _, point in host.mounts:
        if os.path.isdir(f"{point}/{STATE}"):
            os.rmdir(f"{point}/{STATE}")


def test_a_controller_that_is_absent_matters_only_where_a_limit_needs_it() -> None:
    host = cgroups.observe_host()
    if host.version != 1:
        pytest.skip("hierarchies can be left out on version 1 only")
    poor = cgroups.Host(1, tuple((c, point) for c, point in host.mounts if c not in ("memory", "cpuset")))
    cgroup = cgroups.create(poor, f"{STATE}/poor", Resources(pids_limit=10))
    cgroups.remove(cgroup)
    for resources, word in ((Resources(memory_limit=64 << 20), "memory"), (Resources(cpuset_cpus="0"), "cpuset")):
        with pytest.raises(Unavailable, match=word):
            cgroups.create(poor, f"{STATE}/poor", resources)
    for _, point in host.mounts:
        if os.path.isdir(f"{point}/{STATE}"):
            os.rmdir(f"{point}/{STATE}")


def test_values_that_the_kernel_refuses_are_errors_with_the_file() -> None:
    host = cgroups.observe_host()
    try:
        with pytest.raises(Kernel, match="cpuset"):
            cgroups.create(host, f"{STATE}/refused", Resources(cpuset_cpus="9999"))
        with pytest.raises(Invalid):
            cgroups.create(host, f"{STATE}/refused", Resources(memory_limit=1))
    finally:
        found = cgroups.find(host, f"{STATE}/refused")
        if found:
            cgroups.remove(found)
        for _, point in host.mounts:
            if os.path.isdir(f"{point}/{STATE}"):
                os.rmdir(f"{point}/{STATE}")


DISK = """
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <errno.h>
int main(void) {
    mknod("/tmp-disk", S_IFBLK | 0666, makedev(254, 0));
    mknod("/tmp-mem", S_IFCHR | 0666, makedev(1, 1));
    mknod("/tmp-null", S_IFCHR | 0666, makedev(1, 3));
    const char *paths[] = {"/tmp-disk", "/tmp-mem", "/tmp-null"};
    for (int i = 0; i < 3; i++) printf("%d ", open(paths[i], O_RDWR) < 0 ? errno : 0);
    return 0;
}
"""


def test_raw_devices_cannot_be_opened_though_they_can_be_made(box: Box) -> None:
    compile_c(box.layer / "bin", "disk", DISK)
    with Limited(LIMITS) as cgroup:
        assert box.run("disk", cgroup=cgroup).output.split() == ["1", "1", "0"], "EPERM for disk and memory, null opens"


def test_the_device_program_of_version_2_is_accepted_and_enforced(box: Box) -> None:
    tree = next((p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{p}/cgroup.procs")), None)
    if tree is None:
        pytest.skip("no cgroup v2 tree is mounted")
    directory = f"{tree}/{STATE}-devices"
    os.mkdir(directory)
    try:
        device_filter.attach(directory, (DeviceRule(False), DeviceRule(True, "c", 1, 3)))
        device_filter.attach(directory, (DeviceRule(False), DeviceRule(True, "c", 1, 5, "r")))  # replaced, not added
        child = os.fork()
        if not child:
            with open(f"{directory}/cgroup.procs", "w") as file:
                file.write("0")
            answers = []
            for path, flags in (("/dev/null", os.O_RDONLY), ("/dev/zero", os.O_RDONLY), ("/dev/zero", os.O_RDWR)):
                try:
                    os.close(os.open(path, flags))
                    answers.append(1)
                except PermissionError:
                    answers.append(0)
            os._exit(answers[0] * 4 + answers[1] * 2 + answers[2])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2, "only reading /dev/zero is allowed"
    finally:
        os.rmdir(directory)


def test_a_child_is_born_in_a_cgroup_of_version_2_and_killed_with_it(box: Box) -> None:
    tree = next((p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{p}/cgroup.procs")), None)
    if tree is None:
        pytest.skip("no cgroup v2 tree is mounted")
    os.makedirs(f"{tree}/{STATE}-v2/one/container")
    cgroup = cgroups.Cgroup(2, (("", f"{tree}/{STATE}-v2/one/container"),))
    try:
        started = box.background("sh", "-c", "sleep 60 & sleep 60 & wait", cgroup=cgroup)
        row = pathlib.Path(f"/proc/{started.pid}/cgroup").read_text()
        assert f"0::/{STATE}-v2/one/container" in row, "clone3 put it there"
        cgroups.kill(cgroup)
        assert os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1]) == -9, "cgroup.kill"
        close_pidfd(started)
    finally:
        cgroups.remove(cgroup)
        os.rmdir(f"{tree}/{STATE}-v2")
    assert not os.path.exists(f"{tree}/{STATE}-v2"), "gone"


def test_a_pid_is_not_enough_to_kill_a_process(box: Box) -> None:
    from bayplan.errors import NotFound
    from bayplan.kernel.pids import Handle, is_alive, kill, read_start_time

    started = box.background("sleep", "60")
    handle = Handle(started.pid, read_start_time(started.pid))
    assert is_alive(handle), "the recorded process"
    with pytest.raises(NotFound):
        kill(handle._replace(start_time=handle.start_time - 1), 9)
    assert is_alive(handle), "a process that merely has the number is spared"
    kill(handle, 9)
    os.waitpid(started.pid, 0)
    close_pidfd(started)
    assert not is_alive(handle), "gone"
    with pytest.raises(NotFound):
        kill(handle, 9)
    assert linux.MACHINE, "the machine is known"
