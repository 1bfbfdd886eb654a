"""Resources: a load inside meets its limit within 5 %, the accounting says so, and a live container's limits change in place."""

from __future__ import annotations

import errno
import mmap
import os
import pathlib
import time
from contextlib import nullcontext

import pytest
from resources_lab import disk, file, hosts, inside, limited, load, spin, transfer, until, with_hierarchy
from sandbox_lab import STATE, Box, end

from bayplan.errors import Conflict, Invalid, Kernel, Unavailable
from bayplan.kernel import accounting, cgroups, freezer
from bayplan.kernel.cgroups import Cgroup, Host
from bayplan.kernel.limits import weight
from bayplan.model.runtime import BlockDevice, BlockIo, DeviceRule, RdmaLimit, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for control groups")
MEBI = 1 << 20
FIRST = os.geteuid() == 0 and cgroups.observe_host().version == 1
EACH = pytest.mark.parametrize("host", hosts() if os.geteuid() == 0 else [], ids=lambda host: f"version {host.version}")


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    return Box(tmp_path)


def run_in(box: Box, cgroup: Cgroup, *args: str) -> int:
    return box.run(*args, cgroup=cgroup).status


# processors


def test_a_load_gets_its_processor_quota_and_no_more() -> None:
    with limited(Resources(cpu_quota=25000, cpu_period=100000)) as (_, _, cgroup), load(cgroup, spin):
        until(lambda: accounting.read(cgroup).cpu.throttled_periods >= 30, "the quota is used up in 30 periods")
        cpu = accounting.read(cgroup).cpu
    assert cpu.usage <= 1.05 * 25e6 * (cpu.periods + 1), f"25 ms a period, and not 5 % more: {cpu}"
    assert cpu.usage >= 0.95 * 25e6 * cpu.throttled_periods, f"where it was held back, it had had its 25 ms: {cpu}"
    assert cpu.throttled_time > 0 and 0.9 * cpu.usage <= cpu.user + cpu.system <= 1.1 * cpu.usage, f"the account adds up: {cpu}"


def quota(cgroup: Cgroup) -> str:
    if cgroup.version == 2:
        return f"{file(cgroup, '', 'cpu.max')} {file(cgroup, '', 'cpu.max.burst')}"
    return " ".join(file(cgroup, "cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period", "burst"))


def test_quota_period_and_burst_change_together_in_any_direction() -> None:
    with limited(Resources(cpu_quota=50000, cpu_period=100000)) as (host, name, cgroup), load(cgroup, spin) as pid:
        for numbers in ((500000, 1000000, 100000), (5000, 10000, 5000), (100000, 100000, 100000), (1000, 1000000, 0), (20000, 20000, 1)):
            cgroups.update(host, cgroup, name, Resources(cpu_quota=numbers[0], cpu_period=numbers[1], cpu_burst=numbers[2]))
            assert quota(cgroup) == "{} {} {}".format(*numbers), "the kernel would refuse each of them in one order or the other"
        assert cgroups.pids(cgroup) == (pid,), "in the same process"
        with pytest.raises(Kernel, match=r"cpu\.burst"):
            cgroups.update(host, cgroup, name, Resources(cpu_quota=10000, cpu_burst=20000))


def test_what_an_update_says_nothing_of_stays() -> None:
    swap = 96 * MEBI
    with limited(Resources(cpu_quota=30000, cpu_period=60000, memory_limit=64 * MEBI, memory_swap=swap)) as (host, name, cgroup):
        cgroups.update(host, cgroup, name, Resources(cpu_quota=20000))
        assert quota(cgroup) == "20000 60000 0", "the period"
        cgroups.update(host, cgroup, name, Resources(cpu_period=50000))
        assert quota(cgroup) == "20000 50000 0", "the quota"
        cgroups.update(host, cgroup, name, Resources(memory_swap=2 * swap))
        used = accounting.read(cgroup).memory
        assert used.usage.limit == 64 * MEBI and used.swap.limit in (None, 2 * swap), "the limit of memory alone"


def test_a_quota_below_its_parents_is_changed_with_its_period() -> None:
    with limited(Resources(cpu_quota=50000, cpu_period=100000)) as (host, name, _):
        child = cgroups.create(host, f"{name}/child", Resources(cpu_quota=50000, cpu_period=100000), leaf="")
        for numbers in ((5000, 10000), (50000, 100000)):
            cgroups.update(host, child, f"{name}/child", Resources(cpu_quota=numbers[0], cpu_period=numbers[1]))
        with pytest.raises(Kernel, match=r"cpu\.quota") if FIRST else nullcontext():  # version 2 lets a child ask for more
            cgroups.update(host, child, f"{name}/child", Resources(cpu_quota=60000, cpu_period=100000))
        cgroups.remove(child, leaf="")


def test_shares_and_idleness_change_in_place() -> None:
    with limited(Resources(cpu_shares=512)) as (host, name, cgroup):
        assert file(cgroup, "cpu", "cpu.shares" if FIRST else "cpu.weight") == ("512" if FIRST else str(weight(512))), "half the default"
        if not os.path.exists(f"{cgroup.directories[0][1]}/cpu.idle") and not FIRST:
            pytest.skip("this kernel has no cpu.idle (Linux 5.15)")
        for idle in (1, 1, 0):
            cgroups.update(host, cgroup, name, Resources(cpu_shares=2048, cpu_idle=idle))
            assert file(cgroup, "cpu", "cpu.idle") == str(idle), "what is idle takes no shares, and takes them again when it is not"
        assert file(cgroup, "cpu", "cpu.shares" if FIRST else "cpu.weight") == ("2048" if FIRST else str(weight(2048))), "twice the default"


def test_a_processor_list_moves_a_live_load() -> None:
    with limited(Resources(cpuset_cpus="0", cpuset_mems="0")) as (host, name, cgroup), load(cgroup, spin) as pid:
        until(lambda: os.sched_getaffinity(pid) == {0}, "it is on the first")
        last = str(os.cpu_count() - 1)  # type: ignore[operator]
        cgroups.update(host, cgroup, name, Resources(cpuset_cpus=last))
        assert os.sched_getaffinity(pid) == {int(last)}, "and then on the last"


def test_realtime_is_given_out_of_the_parents_share() -> None:
    host = cgroups.observe_host()
    wanted = Resources(cpu_realtime_runtime=10000, cpu_realtime_period=500000)
    if host.version == 2 or not os.path.exists(f"{dict(host.mounts)['cpu']}/cpu.rt_runtime_us"):
        with pytest.raises(Unavailable, match=r"cpu\.realtime"), limited(wanted):
            pass
        return
    with limited(wanted, name=f"{STATE}-realtime") as (_, _, cgroup):
        assert file(cgroup, "cpu", "cpu.rt_runtime_us") == "10000", "runtime and period are set together"

        def become_realtime() -> int:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
            return os.sched_getscheduler(0)

        assert inside(cgroup, become_realtime) == os.SCHED_RR, "a process inside can be a real-time one"
    with pytest.raises(Kernel, match=r"cpu\.realtimeRuntime"), limited(wanted):
        pass  # its parent has none to give


# memory


def test_memory_is_to_be_had_up_to_the_limit_and_not_beyond(box: Box) -> None:
    limit = 128 * MEBI
    with limited(Resources(memory_limit=limit, memory_swap=limit)) as (_, _, cgroup):
        watch = accounting.watch_oom(cgroup)
        assert run_in(box, cgroup, "dd", "if=/dev/zero", "of=/dev/null", f"bs={limit * 95 // 100}", "count=1") == 0, "95 % are there"
        used = accounting.read(cgroup).memory
        assert used.usage.limit == limit and used.oom_kills == 0 and watch.take() == 0, "and nothing was killed"
        assert used.usage.maximum is None or 0.95 * limit <= used.usage.maximum <= limit, f"the account says so: {used.usage}"
        assert run_in(box, cgroup, "dd", "if=/dev/zero", "of=/dev/null", f"bs={limit * 105 // 100}", "count=1") == -9, "105 % are not"
        used = accounting.read(cgroup).memory
        assert used.oom_kills == 1, f"the kill is counted: {used}"
        assert watch.wait(10), "and told"
    assert watch.take() is None, "as is the end of the cgroup"
    watch.close()


def held(size: int, cgroup: Cgroup) -> int:
    """A process in it with that much memory."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        cgroups.join(cgroup)
        memory = mmap.mmap(-1, size)
        memory.write(b"x" * size)
        os.write(writer, b"x")
        time.sleep(600)
        os._exit(0)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return pid


def test_a_memory_limit_below_what_is_used_is_refused_where_that_is_asked() -> None:
    with limited(Resources(memory_limit=256 * MEBI, memory_swap=256 * MEBI)) as (host, name, cgroup):
        pid = held(100 * MEBI, cgroup)
        wanted = Resources(memory_limit=64 * MEBI, memory_swap=64 * MEBI, memory_check_before_update=True)
        with pytest.raises(Conflict, match=r"memory\.limit to 67108864: the container uses [0-9]+ bytes"):
            cgroups.update(host, cgroup, name, wanted)
        assert cgroups.pids(cgroup) == (pid,) and accounting.read(cgroup).memory.usage.limit == 256 * MEBI, "all as it was"
        cgroups.update(host, cgroup, name, wanted._replace(memory_limit=128 * MEBI, memory_swap=128 * MEBI))
        assert accounting.read(cgroup).memory.usage.limit == 128 * MEBI, "above it, it is lowered"
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_memory_and_swap_change_together_in_any_direction() -> None:
    with limited(Resources(memory_limit=64 * MEBI, memory_swap=64 * MEBI)) as (host, name, cgroup):
        for memory, swap in ((256, 512), (32, 32), (512, 512), (64, 128), (-1, -1), (64, -1), (128, 256)):
            wanted = Resources(
                memory_limit=memory if memory < 0 else memory * MEBI,
                memory_swap=swap if swap < 0 else swap * MEBI,
                memory_reservation=16 * MEBI,
                memory_swappiness=10 if FIRST else None,
            )
            cgroups.update(host, cgroup, name, wanted)
            used = accounting.read(cgroup).memory
            assert used.usage.limit == (None if memory < 0 else memory * MEBI), "the kernel refuses a limit above memory and swap"
            assert used.swap.usage is None or used.swap.limit == (None if swap < 0 else swap * MEBI), "the two together"
        assert file(cgroup, "memory", "memory.soft_limit_in_bytes" if FIRST else "memory.low") == str(16 * MEBI), "the reservation"
        cgroups.update(host, cgroup, name, Resources(memory_limit=-1))
        assert accounting.read(cgroup).memory.swap.limit is None, "unlimited memory is not held back by swap"


def test_the_killer_is_disabled_on_version_1_and_that_is_refused_on_version_2() -> None:
    wanted = Resources(memory_limit=64 * MEBI, oom_kill_disable=True, memory_swappiness=0)
    if not FIRST:
        with pytest.raises(Unavailable, match=r"memory\.swappiness"), limited(wanted):
            pass
        return
    with limited(wanted) as (_, _, cgroup):
        assert "oom_kill_disable 1" in file(cgroup, "memory", "memory.oom_control"), "disabled"
        assert file(cgroup, "memory", "memory.swappiness") == "0", "never swapped"


def test_kernel_memory_is_accepted_and_has_no_effect_as_in_runc() -> None:
    with limited(Resources(memory_limit=64 * MEBI, memory_kernel=MEBI, memory_kernel_tcp=MEBI)) as (_, _, cgroup):
        assert accounting.read(cgroup).memory.kernel.limit is None, "it counts as the container's memory, and has no limit of its own"


# tasks


def test_there_are_exactly_as_many_processes_as_the_limit_says(box: Box) -> None:
    with limited(Resources(pids_limit=12)) as (host, name, cgroup):
        started = box.background("sh", "-c", "for i in $(seq 11); do sleep 60 & done; wait", cgroup=cgroup)
        until(lambda: accounting.read(cgroup).pids.current == 12, "the twelve are there")
        assert accounting.read(cgroup).pids.limit == 12 and len(cgroups.pids(cgroup)) == 12, "counted and listed"
        end(started)
        until(lambda: not cgroups.pids(cgroup), "and gone")
        assert run_in(box, cgroup, "sh", "-c", "for i in $(seq 12); do sleep 0.1 & done; wait") != 0, "a thirteenth is refused"
        cgroups.update(host, cgroup, name, Resources(pids_limit=13))
        assert run_in(box, cgroup, "sh", "-c", "for i in $(seq 12); do sleep 0.1 & done; wait") == 0, "until the limit is raised"
        cgroups.update(host, cgroup, name, Resources(pids_limit=-1))
        assert accounting.read(cgroup).pids.limit is None, "or lifted"


# block devices


@pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("counting", ["bytes", "operations"])
def test_a_throttled_disk_is_as_fast_as_the_limit_says(tmp_path: pathlib.Path, counting: str, *, writing: bool) -> None:
    block = 65536  # at this rate a request takes 40 ms: the kernel rounds up to whole ticks, of 4 or 10 ms
    rate, size = (25 * block, 50 * block) if counting == "bytes" else (100, 200 * block)
    field = f"{'write' if writing else 'read'}_{'bps' if counting == 'bytes' else 'iops'}"
    with disk(tmp_path) as (path, major, minor):
        wanted = BlockIo()._replace(**{field: (BlockDevice(major, minor, rate),)})
        with limited(Resources(block_io=wanted)) as (host, name, cgroup):
            shortest = 255
            for attempt in range(1, 5):  # whoever else uses the machine may take from one of them
                shortest = min(shortest, inside(cgroup, lambda: transfer(path, size, writing=writing, block=block)))
                counted = accounting.read(cgroup).block_io.service_bytes
                operation = "Write" if writing else "Read"
                told = sum(entry.value for entry in counted if entry[:3] == (major, minor, operation))
                assert told == attempt * size, f"every byte is in the account: {counted}"
                if shortest <= 210:
                    break
            assert 190 <= shortest <= 210, f"two seconds' worth takes two seconds: {shortest / 100}"
            lifted = tuple(one._replace(value=0) for one in getattr(wanted, field))
            cgroups.update(host, cgroup, name, Resources(block_io=BlockIo()._replace(**{field: lifted})))
            if FIRST:
                directory = "write" if writing else "read"
                assert not file(cgroup, "blkio", f"blkio.throttle.{directory}_{field[-3:] if counting == 'bytes' else 'iops'}_device"), (
                    "0 lifts it"
                )


def test_weights_are_those_of_the_scheduler(tmp_path: pathlib.Path) -> None:
    with disk(tmp_path) as (path, major, minor):
        scheduler = pathlib.Path(f"/sys/block/{os.path.basename(path)}/queue/scheduler")
        if "bfq" not in scheduler.read_text():
            pytest.skip("this kernel has no BFQ scheduler (module bfq)")
        before = scheduler.read_text().partition("[")[2].partition("]")[0]
        scheduler.write_text("bfq")
        wanted = BlockIo(weight=500, weight_devices=(BlockDevice(major, minor, 700),))
        with limited(Resources(block_io=wanted)) as (host, name, cgroup):
            files = ("blkio.bfq.weight", "blkio.bfq.weight_device") if FIRST else ("io.bfq.weight",)
            told = " ".join(file(cgroup, "blkio", one) for one in files)
            assert "500" in told and f"{major}:{minor} 700" in told, f"its own, and the one on the disk: {told}"
            cgroups.update(host, cgroup, name, Resources(block_io=BlockIo(weight=100)))
            assert "100" in file(cgroup, "blkio", files[0]), "changed in place"
            with pytest.raises(Unavailable, match=r"blockIO\.leafWeight"):
                cgroups.update(host, cgroup, name, Resources(block_io=BlockIo(leaf_weight=100)))
        scheduler.write_text(before)


# huge pages, networks, and what is not there


def check_huge_pages(host: Host) -> None:
    pages = pathlib.Path("/proc/sys/vm/nr_hugepages")
    before = int(pages.read_text())
    pages.write_text(str(before + 4))
    try:
        with limited(Resources(hugepages=(("2MB", 4 * MEBI),)), host=host) as (_, name, cgroup):
            amount = dict(accounting.read(cgroup).hugetlb)["2MB"]
            assert (amount.usage, amount.limit) == (0, 4 * MEBI), f"two pages: {amount}"

            def map_pages() -> int:
                mmap.mmap(-1, 4 * MEBI, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)[0] = 1
                try:
                    mmap.mmap(-1, 6 * MEBI, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
                except OSError as error:
                    return error.errno or 0
                return 0

            if int(pages.read_text()) >= before + 4:  # the machine had as many to give
                assert inside(cgroup, map_pages) == errno.ENOMEM, "two pages can be mapped, and three not"
            with pytest.raises(Unavailable, match=r"hugepageLimits needs hugetlb\.3MB"):
                cgroups.update(host, cgroup, name, Resources(hugepages=(("3MB", 1),)))
    finally:
        pages.write_text(str(before))


def test_huge_pages_are_limited_by_their_controller_of_version_2() -> None:
    host = hosts()[-1]
    root = host.mounts[0][1]

    def is_there() -> bool:
        return "hugetlb" in pathlib.Path(root, "cgroup.controllers").read_text().split()

    deadline = time.monotonic() + 1  # it comes back to this tree some time after a hierarchy of version 1 with it has gone
    while host.version == 2 and not is_there() and time.monotonic() < deadline:
        time.sleep(0.1)
    if host.version != 2 or not is_there():
        pytest.skip("no tree of cgroup version 2 has the hugetlb controller")
    enabled = "hugetlb" in pathlib.Path(root, "cgroup.subtree_control").read_text().split()
    try:
        check_huge_pages(host)
    finally:
        if not enabled:
            pathlib.Path(root, "cgroup.subtree_control").write_text("-hugetlb")


def test_huge_pages_are_limited_by_their_hierarchy_of_version_1(tmp_path: pathlib.Path) -> None:
    with_hierarchy("hugetlb", tmp_path, check_huge_pages)


def test_a_network_class_is_set_on_version_1(tmp_path: pathlib.Path) -> None:
    def check(host: Host) -> None:
        with limited(Resources(network_class=0x100001), host=host) as (_, name, cgroup):
            assert file(cgroup, "net_cls", "net_cls.classid") == str(0x100001), "the class of its packets"
            cgroups.update(host, cgroup, name, Resources(network_class=0x100002))
            assert file(cgroup, "net_cls", "net_cls.classid") == str(0x100002), "and another"

    with_hierarchy("net_cls", tmp_path, check)


def test_network_priorities_are_set_on_version_1(tmp_path: pathlib.Path) -> None:
    def check(host: Host) -> None:
        with limited(Resources(network_priorities=(("lo", 5),)), host=host) as (_, name, cgroup):
            assert "lo 5" in file(cgroup, "net_prio", "net_prio.ifpriomap").splitlines(), "the priority on an interface"
            with pytest.raises(Kernel, match=r"network\.priorities"):
                cgroups.update(host, cgroup, name, Resources(network_priorities=(("nonesuch0", 5),)))

    with_hierarchy("net_prio", tmp_path, check)


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (Resources(rdma=(RdmaLimit("mlx5_1", 3, 10000),)), "rdma needs the rdma controller"),
        (Resources(hugepages=(("2MB", MEBI),)), "hugepageLimits needs the hugetlb controller"),
        (Resources(network_class=1), "network.classID"),
        (Resources(network_priorities=(("lo", 1),)), "network.priorities"),
    ],
    ids=["rdma", "huge pages", "network class", "network priorities"],
)
def test_a_limit_without_its_controller_is_refused_by_name(wanted: Resources, word: str) -> None:
    host = cgroups.observe_host()
    if host.version == 1:
        host = Host(1, tuple((c, point) for c, point in host.mounts if c not in ("rdma", "hugetlb", "net_cls", "net_prio")))
    elif not word.startswith("network") and word.split()[0][:4] in pathlib.Path(host.mounts[0][1], "cgroup.controllers").read_text():
        pytest.skip("this host has the controller")
    with pytest.raises(Unavailable, match=word.replace(".", r"\.")), limited(wanted, host=host):
        pass


@EACH
def test_files_of_version_2_are_written_as_they_are_given(host: Host) -> None:
    file_name = "cgroup.max.descendants"
    if host.version == 1:
        with (
            pytest.raises(Unavailable, match="unified is for cgroup version 2"),
            limited(Resources(unified=((file_name, "7"),)), host=host),
        ):
            pass
        return
    with limited(Resources(unified=((file_name, "7"), ("cgroup.max.depth", "3"))), host=host) as (_, name, cgroup):
        assert (file(cgroup, "", file_name), file(cgroup, "", "cgroup.max.depth")) == ("7", "3"), "each in its file"
        for key, error, word in (
            ("cgroup.nonesuch", Unavailable, r"unified\.cgroup\.nonesuch"),
            ("nonesuch.max", Unavailable, "needs the nonesuch controller"),
            ("../cgroup.procs", Invalid, "without a slash"),
            ("nonesuch", Invalid, "CONTROLLER.PARAMETER"),
        ):
            with pytest.raises(error, match=word):
                cgroups.update(host, cgroup, name, Resources(unified=((key, "1"),)))


# devices


def test_a_live_containers_devices_change_without_a_moment_of_none() -> None:
    null, zero = DeviceRule(True, "c", 1, 3), DeviceRule(True, "c", 1, 5)
    with limited(Resources(devices=(DeviceRule(False), null))) as (host, name, cgroup):

        def open_null() -> int:
            for _ in range(3000):
                os.close(os.open("/dev/null", os.O_RDWR))
            return 0

        pid = os.fork()
        if not pid:
            os._exit(inside(cgroup, open_null))
        for rules in ((null, zero), (null,)) * 50:
            cgroups.update(host, cgroup, name, Resources(devices=(DeviceRule(False), *rules)))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "what it has and keeps can be opened at any time"

        def open_zero() -> int:
            try:
                os.open("/dev/zero", os.O_RDONLY)
            except OSError as error:
                return error.errno or 0
            return 0

        assert inside(cgroup, open_zero) == errno.EPERM, "what was taken cannot"
        cgroups.update(host, cgroup, name, Resources(devices=(DeviceRule(False), null, zero)))
        assert inside(cgroup, open_zero) == 0, "what is given can"


# freezing


@EACH
@pytest.mark.parametrize("also", [(), ("freezer",)], ids=["joined when frozen", "joined at the start"])
def test_what_is_frozen_does_not_run_until_it_is_thawed(host: Host, also: tuple[str, ...]) -> None:
    with limited(Resources(), host=host, also=also) as (_, name, cgroup), load(cgroup, spin) as pid:

        def ticks() -> int:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        until(lambda: ticks() > 2, "it runs")
        assert not freezer.is_frozen(cgroup), "not frozen yet"
        frozen = freezer.freeze(cgroup)
        before = ticks()
        time.sleep(0.2)
        assert ticks() == before and freezer.is_frozen(cgroup) and freezer.is_frozen(frozen), "it stands still"
        assert cgroups.find(host, name, leaf="") is not None, "and is found"
        freezer.freeze(cgroup)  # twice is once
        freezer.thaw(cgroup)
        assert not freezer.is_frozen(cgroup), "thawed"
        until(lambda: ticks() > before + 2, "it runs again")
        freezer.thaw(cgroup)


@EACH
def test_a_stampede_of_births_is_frozen_and_killed_while_frozen(host: Host, box: Box) -> None:
    with limited(Resources(), host=host) as (_, _, cgroup):
        started = box.background("sh", "-c", "while :; do for i in 1 2 3 4 5 6 7 8; do : & done; wait; done", cgroup=cgroup)
        until(lambda: len(cgroups.pids(cgroup)) > 4, "they are born")
        frozen = freezer.freeze(cgroup)
        there = cgroups.pids(frozen)
        time.sleep(0.1)
        assert cgroups.pids(frozen) == there, "nothing is born, and nothing ends"
        cgroups.kill(frozen)
        assert os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1]) == -9, "killed all the same"
        if started.pidfd >= 0:
            os.close(started.pidfd)
        until(lambda: not cgroups.pids(cgroup), "with all that it had")


@EACH
def test_what_does_not_freeze_in_time_is_thawed_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezer, "_SECONDS", -1.0)
    with limited(Resources(), host=host) as (_, _, cgroup), load(cgroup, spin):
        with pytest.raises(Conflict, match="not frozen after"):
            freezer.freeze(cgroup)
        assert not freezer.is_frozen(cgroup), "neither frozen nor half frozen"


@EACH
def test_what_is_below_something_frozen_is_not_thawed_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezer, "_THAW_SECONDS", 0.5)
    with limited(Resources(), host=host, also=("freezer",)) as (_, name, parent):
        child = cgroups.create(host, f"{name}/child", Resources(), leaf="", also=("freezer",))
        with load(child, spin):
            freezer.freeze(parent)
            with pytest.raises(Conflict, match="a cgroup above it"):
                freezer.thaw(child)
            assert not freezer.is_frozen(child) and freezer.is_frozen(parent), "it is the parent that is frozen"
            freezer.thaw(parent)
        cgroups.remove(child, leaf="")


# the account


@EACH
def test_pressure_is_measured_where_the_kernel_does_it(host: Host) -> None:
    with limited(Resources(), host=host) as (_, _, cgroup), load(cgroup, spin):
        used = accounting.read(cgroup)
    if host.version == 1:
        assert used.cpu.pressure is None is used.memory.pressure, "version 1 has none"
    elif os.path.exists("/proc/pressure/cpu"):
        assert used.cpu.pressure and used.cpu.pressure.some.total >= 0, f"version 2 has it: {used.cpu.pressure}"
        told = accounting.document(used)["data"]["cpu"]["psi"]
        assert told.keys() == {"some", "full"} and told["some"].keys() == {"avg10", "avg60", "avg300", "total"}, "as runc says it"


def test_the_document_is_the_one_that_runc_writes() -> None:
    with limited(Resources(memory_limit=64 * MEBI, pids_limit=9)) as (_, _, cgroup), load(cgroup, spin):
        until(lambda: accounting.read(cgroup).cpu.usage > 0, "it runs")
        document = accounting.document(accounting.read(cgroup))
    data = document["data"]
    assert document["type"] == "stats" and {"cpu", "memory", "pids", "blkio", "hugetlb", "intel_rdt"} <= data.keys(), "its parts"
    assert data["cpu"]["usage"]["total"] > 0 and data["cpu"]["usage"].keys() >= {"kernel", "user"}, "processor time"
    assert data["memory"]["usage"]["limit"] == 64 * MEBI and data["memory"]["raw"], "memory"
    assert data["memory"].keys() >= {"swap", "kernel", "kernelTCP"} and data["pids"] == {"current": 1, "limit": 9}, "and the rest"
