"""Capabilities, users, groups, control groups, devices and what of /proc and /sys a container may see and write."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, Host, weakened
from engine_lab import busybox_tree

SHOW = "busybox grep -e Cap -e NoNewPrivs -e Seccomp: /proc/self/status"


def status(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


@pytest.mark.parametrize(
    "options", [(), ("--user", "1000"), ("--cap-add", "ALL"), ("--privileged",)], ids=["root", "user", "all", "privileged"]
)
def test_no_capability_is_ever_inheritable(host: Host, options: tuple[str, ...]) -> None:
    """CVE-2022-24769, -27649, -27650, -29162: a program with inheritable file capabilities would keep them for a plain user."""
    host.up("entered", options=(*NET, *options))
    for said in (host.command("run", "--rm", *NET, *options, IMAGE, "sh", "-c", SHOW), host.inside("entered", "sh", "-c", SHOW)):
        found = status(said)
        assert int(found["CapInh"], 16) == 0 == int(found["CapAmb"], 16), f"at start and at exec: {said}"
        if "1000" in options:
            assert int(found["CapEff"], 16) == 0 == int(found["CapPrm"], 16), f"a user has none at all: {said}"


def test_an_inheritable_capability_of_the_caller_does_not_reach_the_container(host: Host, tmp_path: Path) -> None:
    """Bites: the caller itself has them all inheritable and ambient, as some sessions do."""
    caller = ["setpriv", "--inh-caps", "+net_raw,+sys_admin", "--ambient-caps", "+net_raw,+sys_admin"]
    host.up("entered")
    for words in (("run", "--rm", *NET, IMAGE, "sh", "-c", SHOW), ("exec", "entered", "sh", "-c", SHOW)):
        found = status(subprocess.run([*caller, *host.argv(*words)], capture_output=True, text=True, timeout=60).stdout)
        assert int(found["CapInh"], 16) == 0 == int(found["CapAmb"], 16), f"{words}: {found}"
    weak = weakened(tmp_path / "weak", ("kernel/capabilities.py", "sets.permitted, sets.inheritable)", "sets.permitted, sets.permitted)"))
    said = host.ran("exec", "entered", "sh", "-c", SHOW, runtime=weak).stdout.decode()
    assert int(status(said)["CapInh"], 16), "so the test would see them"


# users


PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n99:x:7:8::/:/bin/sh\nbad:x:-1:0::/:\nhuge:x:4294967296:0::/:\n"
GROUP = "root:x:0:\napp:x:1001:\nmore:x:2000:app,root\nother:x:2001:somebody\n1234:x:55:\nbadgroup:x:x:app2\n"
USERS = [
    ("", 0, 0, {0, 2000}),
    ("root", 0, 0, {0, 2000}),
    ("0", 0, 0, {0, 2000}),
    ("app", 1000, 1001, {1001, 2000}),
    ("1000", 1000, 1001, {1001, 2000}),
    ("1000:1000", 1000, 1000, {1000}),
    ("app:other", 1000, 2001, {2001}),
    ("app:0", 1000, 0, {0}),
    ("5:6", 5, 6, {6}),
    ("5", 5, 0, {0}),
    ("4294967294", 4294967294, 0, {0}),
]
REFUSED = [
    "-1", "4294967295", "4294967296", "18446744073709551616", "1000:-1", "1000:4294967295", "1000:4294967296", "nobody-here", "app:nowhere",
    "app:", ":", "app:app:app", " root", "root ", "root\t", "+0", "0x0", "٠", "1e3", "bad", "huge", "../0", "$(id)", "root,app", "1" * 400,
]  # fmt: skip


@pytest.fixture(scope="module")
def accounts(shared_host: Host, tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = tmp_path_factory.mktemp("accounts") / "tree"
    busybox_tree(tree)
    (tree / "etc/passwd").write_text(PASSWD)
    (tree / "etc/group").write_text(GROUP)
    shared_host.image("accounts:1", tree)
    return "accounts:1"


@pytest.mark.parametrize(("user", "uid", "gid", "groups"), USERS)
def test_a_user_is_exactly_who_the_images_files_say(host: Host, accounts: str, user: str, uid: int, gid: int, groups: set[int]) -> None:
    """CVE-2022-36109, -2989, -2990, -2995: groups that are missing, or are the caller's."""
    show = "busybox grep -e Uid -e Gid -e Groups /proc/self/status"
    host.up("entered", image=accounts)
    option = ("--user", user) if user else ()
    for words in (("run", "--rm", *NET, *option, accounts), ("exec", *option, "entered")):
        found = status(host.command(*words, "sh", "-c", show))
        assert found["Uid"].split() == [str(uid)] * 4 and found["Gid"].split() == [str(gid)] * 4, f"{words}: {found}"
        assert {int(each) for each in found["Groups"].split()} | {gid} == groups | {gid}, (
            f"{words}: the files' groups and no others: {found}"
        )


@pytest.mark.parametrize("user", REFUSED)
def test_an_odd_user_is_refused_and_never_becomes_root(host: Host, accounts: str, user: str) -> None:
    """CVE-2026-30892 and its like: a number that wraps, a name that is nearly one."""
    host.up("entered", image=accounts)
    for words in (("run", "--rm", *NET, "--user", user, accounts), ("exec", "--user", user, "entered")):
        done = host.ran(*words, "id")
        assert done.returncode != 0 and not done.stdout and done.stderr, f"{words}: {done}"


def test_added_groups_are_the_only_ones_added(host: Host, accounts: str) -> None:
    show = "busybox grep Groups /proc/self/status"
    said = host.command("run", "--rm", *NET, "--user", "5:6", "--group-add", "77", "--group-add", "other", accounts, "sh", "-c", show)
    assert {int(each) for each in said.split()[1:]} - {6} == {77, 2001}, said


ODD = {
    "link": lambda path: path.symlink_to("/proc/1/environ"),
    "host": lambda path: path.symlink_to("../../../../../../../etc/passwd"),
    "loop": lambda path: path.symlink_to("passwd"),
    "fifo": os.mkfifo,
    "directory": lambda path: path.mkdir(),
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    "tty": lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 0)),
    "giant": lambda path: os.truncate(_touched(path), 1 << 40),
}


def _touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("kind", [each for each in ODD if each != "giant"])
def test_an_odd_passwd_in_the_image_is_neither_followed_nor_waited_for(host: Host, tmp_path: Path, kind: str) -> None:
    """CVE-2024-9676, CVE-2021-20291: a link, a fifo, a device."""
    tree = tmp_path / "tree"
    busybox_tree(tree)
    for name in ("passwd", "group"):
        (tree / "etc" / name).unlink()
        ODD[kind](tree / "etc" / name)
    host.image("odd:1", tree)
    assert host.ran("run", "--rm", *NET, "--user", "daemon", "odd:1", "id", timeout=20).returncode != 0, "no name of the host's is known"
    said = host.command("run", "--rm", *NET, "--user", "12:13", "odd:1", "sh", "-c", "busybox grep -e Uid -e Groups /proc/self/status")
    assert status(said)["Uid"].split()[0] == "12" and set(status(said)["Groups"].split()) <= {"13"}, "a number needs no file"


def test_a_giant_passwd_costs_no_memory(host: Host) -> None:
    """Made by the container itself, so that exec meets it; a sparse terabyte."""
    host.up(
        "giant", "sh", "-c", "busybox truncate -s 1T /etc/passwd; busybox mv /etc/group /etc/group.was; mkfifo /etc/group; exec sleep 1000"
    )
    host.wait("it is there", lambda: "group.was" in host.inside("giant", "ls", "/etc"))
    show = host.argv("exec", "--user", "12:13", "giant", "grep", "Uid", "/proc/self/status")
    done = subprocess.run(["prlimit", f"--as={600 << 20}", *show], capture_output=True, timeout=20)
    assert done.stdout.split()[1:2] == [b"12"], f"a file of that size counts as none, and a fifo is not waited for: {done}"


# control groups and devices


def test_no_control_group_can_be_written(host: Host) -> None:
    """CVE-2022-0492, CVE-2023-25809: release_agent, and limits of one's own."""
    script = """
        busybox find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name notify_on_release | while read f; do
            echo 1 2>/dev/null >$f && echo "wrote $f"; done
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo made
        for d in /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo "made in $d"; done
        mkdir /m
        for o in memory rdma cpu none,name=x; do mount -t cgroup -o $o x /m 2>/dev/null && echo "mounted $o"; done
        mount -t cgroup2 x /m 2>/dev/null && echo mounted2
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted
        echo tried"""
    host.up("entered", options=NET)
    for said in (
        host.command("run", "--rm", *NET, IMAGE, "sh", "-c", script),
        host.command("run", "--rm", *NET, "--security-opt", "seccomp=unconfined", IMAGE, "sh", "-c", script),
        host.inside("entered", "sh", "-c", script),
    ):
        assert said == "tried\n", f"nothing could be written, made or mounted: {said}"


def test_in_a_user_namespace_of_its_own_it_mounts_no_writable_release_agent(host: Host) -> None:
    """Without the filter a container's root makes a user namespace, and is its root; the host's controllers stay closed to it."""
    inner = "mkdir /m; mount -t cgroup -o rdma x /m && echo x >/m/release_agent && echo written; echo tried"
    script = f"busybox unshare -U -r -m -C sh -c '{inner}' 2>/dev/null"
    said = host.command("run", "--rm", *NET, "--security-opt", "seccomp=unconfined", IMAGE, "sh", "-c", f"{script}; true")
    assert "written" not in said, said


def test_with_the_cgroups_writable_the_same_script_writes(host: Host) -> None:
    said = host.command(
        "run",
        "--rm",
        *NET,
        "--privileged",
        IMAGE,
        "sh",
        "-c",
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x && echo made && busybox rmdir $d/x && break; done",
    )
    assert "made" in said, "so the attack bites where nothing is closed"


@pytest.mark.parametrize(
    "kind", ["b 254 0", "b 8 0", "b 7 0", "c 1 1", "c 1 2", "c 1 4", "c 10 200", "c 10 232", "c 4 1", "c 5 1", "c 29 0"]
)
def test_a_raw_device_cannot_be_used_though_its_node_can_be_made(host: Host, kind: str) -> None:
    script = f"mknod /disk {kind} && (dd if=/disk of=/dev/null bs=1 count=1; echo >/disk) 2>&1"
    for options in ((), ("--security-opt", "seccomp=unconfined")):
        done = host.ran("run", "--rm", *NET, *options, IMAGE, "sh", "-c", script)
        assert b"not permitted" in done.stdout.lower() and b"records" not in done.stdout, (
            f"refused by the controller, whatever its mode: {done}"
        )


def test_a_device_in_the_image_or_a_volume_is_refused_too(host: Host, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    busybox_tree(tree)
    os.mknod(tree / "memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    host.image("disk:1", tree)
    host.command("volume", "create", "nodes")
    os.mknod(Path(host.state().root.volume_data("nodes")) / "memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    for path in ("/memory", "/v/memory"):
        done = host.ran("run", "--rm", *NET, "-v", "nodes:/v", "disk:1", "busybox", "dd", f"if={path}", "of=/dev/null", "bs=1", "count=1")
        assert b"not permitted" in done.stderr and done.returncode, f"{path}: {done}"
    done = host.ran(
        "run", "--rm", *NET, "--device-cgroup-rule", "c 1:1 r", "disk:1", "busybox", "dd", "if=/memory", "of=/dev/null", "bs=1", "count=1"
    )
    assert b"not permitted" not in done.stderr, f"with a rule that allows it the device is reached, so the attack bites: {done}"


@pytest.mark.parametrize("path", ["/dev/shm", "/dev/mqueue", "/dev/pts", "/proc", "/sys", "/sys/fs/cgroup"])
def test_no_device_of_a_file_system_of_ours_takes_effect(host: Host, path: str) -> None:
    mounts = host.command("run", "--rm", *NET, IMAGE, "cat", "/proc/mounts").splitlines()
    options = next(line.split()[3].split(",") for line in mounts if line.split()[1] == path)
    assert {"nosuid", "noexec"} <= set(options), f"{path}: {options}"
    assert "nodev" in options or path == "/dev/pts", f"{path}: {options}"


# /proc and /sys


MASKED = (
    "/proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats /proc/scsi /proc/acpi /proc/asound /proc/interrupts"
    " /proc/timer_stats /sys/firmware /sys/devices/virtual/powercap"
).split()
WRITES = (
    "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hostname /proc/sys/vm/panic_on_oom"
    " /proc/sys/fs/binfmt_misc/register /proc/sys/kernel/randomize_va_space /proc/irq/default_smp_affinity /proc/bus/pci /proc/fs"
    " /sys/kernel/uevent_helper /sys/power/state /sys/kernel/mm/transparent_hugepage/enabled /sys/module /sys/class/net/lo/mtu"
    " /proc/mtrr /proc/slabinfo /proc/sys/kernel/yama/ptrace_scope /proc/sys/net/ipv4/ip_forward /proc/kcore"
).split()


@pytest.mark.parametrize(
    "options", [(), ("--cap-add", "SYS_PTRACE"), ("--pid", "host"), ("--user", "1000"), ("--read-only",)], ids=" ".join
)
def test_what_tells_about_the_host_is_masked_and_what_changes_it_is_read_only(host: Host, options: tuple[str, ...]) -> None:
    show = f'for f in {" ".join(MASKED)}; do busybox wc -c <$f 2>/dev/null | grep -v "^0$"; ls -A $f/ 2>/dev/null; done; '
    tries = "(echo 1 >$f) 2>/dev/null && echo wrote $f; mkdir $f/x 2>/dev/null && echo made $f"
    tries = f"for f in {' '.join(WRITES)}; do {tries}; done; echo tried"
    host.up("entered", options=(*NET, *options))
    for words in (("run", "--rm", *NET, *options, IMAGE), ("exec", "entered")):
        said = host.command(*words, "sh", "-c", show + tries)
        assert said == "tried\n", f"{words}: {said}"


def test_without_the_masks_these_files_speak(host: Host) -> None:
    show = "busybox wc -c </proc/interrupts; busybox wc -c </proc/timer_list; ls /sys/firmware"
    said = host.ran("run", "--rm", *NET, "--privileged", IMAGE, "sh", "-c", show).stdout.decode()
    assert any(line not in ("", "0") for line in said.splitlines()), f"so the test would see them: {said}"


def test_a_mask_cannot_be_taken_off(host: Host) -> None:
    script = "busybox umount /proc/kcore; busybox umount -l /proc/sys; mount -o remount,rw /proc/sys; mount -t proc x /tmp; ls /tmp"
    script += "; cat /proc/interrupts"
    for options in ((), ("--security-opt", "seccomp=unconfined")):
        assert not host.ran("run", "--rm", *NET, *options, IMAGE, "sh", "-c", script).stdout, "not even without the filter"
