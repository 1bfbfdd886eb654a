"""Mounts and devices of a configuration, done for real and looked at from inside; beside runc where it is installed."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
from typing import Any

import pytest
from kernel_lab import needs
from sandbox_lab import BASIC, MOUNTS, NAMESPACES, Box, Limited, finish

from bayplan.errors import BayplanError, Invalid, Kernel, NotFound
from bayplan.kernel import cgroupmounts, idmap, linux, mounts, rootfs, sandbox, tree
from bayplan.model.runtime import Device, IdMapping, Linux, Mount, Namespace, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts")
TMPFS_MAPS = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 3)
MAPPING = ((IdMapping(0, 100000, 65536),), (IdMapping(0, 200000, 65536),))


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    return Box(tmp_path)


@pytest.fixture
def host(box: Box) -> pathlib.Path:
    made = box.directory / "host"
    made.mkdir()
    (made / "file").write_text("content\n")
    return made


def flags(box: Box, place: str, *extra: Mount, **fields: Any) -> set[str]:
    """The per-mount options that a container sees of what is mounted at a place, topmost."""
    rows = [line.split() for line in box.sh("cat /proc/self/mountinfo", mounts=extra, **fields).splitlines()]
    return set([row for row in rows if row[4] == place][-1][5].split(","))


def in_namespace(work: str, *args: str) -> str:
    """Run Python in a mount namespace of its own, as the tests' own process may not have mounts."""
    code = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"
        "import os, pathlib\n"
        "from bayplan.kernel import linux\n"
        "linux.unshare(linux.CLONE_NEWNS); linux.mount('', '/', '', linux.MS_REC | linux.MS_PRIVATE)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code + work, *args], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"the script ends well: {ended.stderr}"
    return ended.stdout


# -- options ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "has", "has_not"),
    [
        (("ro", "nosuid", "nodev", "noexec"), {"ro", "nosuid", "nodev", "noexec"}, {"rw"}),
        (("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec"), {"rw"}, {"nosuid", "nodev", "noexec"}),
        (("noatime",), {"noatime"}, {"relatime"}),
        (("noatime", "nodiratime"), {"noatime", "nodiratime"}, {"relatime"}),
        (("nodiratime",), {"nodiratime", "relatime"}, set()),
        (("nodiratime", "diratime"), {"relatime"}, {"nodiratime"}),
        (("strictatime",), set(), {"relatime", "noatime"}),
        (("norelatime",), set(), {"relatime", "noatime"}),
        (("strictatime", "relatime", "nostrictatime"), {"relatime"}, set()),
        (("defaults", "silent", "loud", "async", "nomand", "noiversion", "nolazytime", "atime"), {"rw", "relatime"}, set()),
        (("nosymfollow",), {"nosymfollow"}, set()),
        (("nosymfollow", "symfollow"), set(), {"nosymfollow"}),
    ],
    ids=",".join,
)
def test_the_flags_of_a_bind_are_those_asked_for(
    box: Box, host: pathlib.Path, options: tuple[str, ...], has: set[str], has_not: set[str]
) -> None:
    seen = flags(box, "/b", Mount("/b", "bind", str(host), ("rbind", *options)))
    assert has <= seen and not has_not & seen, f"{options} are {seen}"


@pytest.mark.parametrize(
    ("options", "has"),
    [
        (("ro", "nosuid"), {"ro", "nosuid"}),
        (("noatime",), {"noatime"}),
        (("nodiratime", "noexec"), {"nodiratime", "noexec"}),
        (("sync",), {"rw"}),
    ],
    ids=",".join,
)
def test_the_flags_of_a_new_file_system_are_those_asked_for(box: Box, options: tuple[str, ...], has: set[str]) -> None:
    assert has <= flags(box, "/t", Mount("/t", "tmpfs", "tmpfs", options)), "a tmpfs has them"


def test_super_block_options_of_a_new_file_system_reach_it(box: Box) -> None:
    row = box.sh("grep ' /t ' /proc/self/mountinfo", mounts=(Mount("/t", "tmpfs", "tmpfs", ("sync", "dirsync", "lazytime", "size=1m")),))
    assert {"sync", "dirsync", "lazytime", "size=1024k"} <= set(row.split()[-1].split(",")), f"the file system has them: {row}"


@pytest.mark.parametrize("option", ["sync", "dirsync", "lazytime", "iversion", "mand", "size=64k", "tmpcopyup"])
def test_a_bind_refuses_what_only_a_file_system_can_have(box: Box, host: pathlib.Path, option: str) -> None:
    with pytest.raises(Invalid, match=rf"/b: {option} is not for a bind.*mounts\[7\]"):
        box.run("true", mounts=(Mount("/b", "bind", str(host), ("rbind", option)),))


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize(
    ("options", "top", "beneath"),
    [
        (("ro",), "ro", "rw relatime"),
        (("rro",), "ro", "ro"),
        (("ro", "rrw"), "rw", "rw"),
        (("rnosuid", "rnodev", "rnoexec"), "nosuid nodev noexec", "nosuid nodev noexec"),
        (("rnosuid", "rsuid"), "!nosuid", "!nosuid"),
        (("rnoatime",), "noatime", "noatime"),
        (("rnoatime", "ratime"), "relatime", "relatime"),
        (("rstrictatime",), "!relatime !noatime", "!relatime !noatime"),
        (("rstrictatime", "rnostrictatime"), "relatime", "relatime"),
        (("rnoatime", "rrelatime"), "relatime", "relatime"),
        (("rnodiratime",), "nodiratime relatime", "nodiratime relatime"),
        (("rnodiratime", "rdiratime"), "!nodiratime", "!nodiratime"),
        (("rnosymfollow",), "nosymfollow", "nosymfollow"),
        (("rnosymfollow", "rsymfollow"), "!nosymfollow", "!nosymfollow"),
    ],
    ids=str,
)
def test_recursive_attributes_reach_every_mount_beneath(
    tmp_path: pathlib.Path, options: tuple[str, ...], top: str, beneath: str, fallback: bool
) -> None:
    output = in_namespace(
        "import errno\n"
        "from bayplan.kernel import mountoptions\n"
        "top, fallback, *options = sys.argv[1:]\n"
        "linux.mount('tmpfs', top, 'tmpfs', linux.MS_RELATIME)\n"
        "os.mkdir(top + '/a b'); linux.mount('tmpfs', top + '/a b', 'tmpfs', linux.MS_RELATIME)\n"
        "def absent(*args, **fields): raise OSError(errno.ENOSYS, 'as before Linux 5.12')\n"
        "if fallback == 'True': linux.mount_setattr = absent\n"
        "mountoptions.adjust(os.open(top, os.O_PATH), mountoptions.parse_options(tuple(options)))\n"
        "print(*(line.split()[5] for line in open('/proc/self/mountinfo') if line.split()[4].startswith(top)))\n",
        str(tmp_path),
        str(fallback),
        *options,
    )
    for words, seen in zip((top, beneath), output.split()):
        for word in words.split():
            assert (word.lstrip("!") in seen.split(",")) is not word.startswith("!"), f"{options}: {word} in {output}"


def test_an_unknown_option_is_the_file_systems_and_its_error_names_the_mount(box: Box) -> None:
    with pytest.raises(Kernel, match=r"tmpfs on /t with the options fruit=apple,size=1m: Invalid argument.*\(mounts\[7\]\)"):
        box.run("true", mounts=(Mount("/t", "tmpfs", "tmpfs", ("fruit=apple", "size=1m")),))
    with pytest.raises(Kernel, match=r"nosuchfs on /t: No such device.*\(mounts\[7\]\)"):
        box.run("true", mounts=(Mount("/t", "nosuchfs", "", ()),))
    with pytest.raises(Invalid, match="5000 characters"):
        box.run("true", mounts=(Mount("/t", "tmpfs", "tmpfs", ("x" * 5000,)),))


# -- kinds of mounts --------------------------------------------------------------------------------------------------------


def test_a_read_only_tmpfs_holds_the_mounts_beneath_it_and_a_read_only_dev_its_devices(box: Box, host: pathlib.Path) -> None:
    ro = tuple(m._replace(options=(*m.options, "ro")) if m.destination == "/dev" else m for m in MOUNTS)
    config = box.config("sh", "-c", "cat /run/secrets/file; ls /dev; touch /run/x /dev/x")
    config = config._replace(
        mounts=(*ro, Mount("/run", "tmpfs", "tmpfs", ("ro",)), Mount("/run/secrets/file", "bind", str(host / "file"), ("rbind",)))
    )
    output = box.run_config(config).output
    assert output.startswith("content\n") and "null" in output, "what is beneath was made"
    assert output.count("Read-only file system") == 2, f"and both are read-only after that: {output}"


def test_a_read_only_dev_has_its_console(box: Box) -> None:
    ro = tuple(m._replace(options=(*m.options, "ro")) if m.destination == "/dev" else m for m in MOUNTS)
    config = box.config("sh", "-c", "ls -l /dev/console; touch /dev/x", terminal=True)._replace(mounts=ro)
    started = sandbox.start(sandbox.create(config, box.rootfs, cgroup=None, stdio=None))
    output = finish(started, started.terminal).output
    assert "136," in output and "Read-only" in output, f"the terminal is there: {output}"


def test_a_relative_destination_starts_at_the_root(box: Box, host: pathlib.Path) -> None:
    assert box.sh("cat /a/b/file", mounts=(Mount("a/b", "bind", str(host), ("rbind",)),)) == "content\n", "runc does the same"


@pytest.mark.parametrize("destination", ["/", "", ".", "/..", "/self"])
def test_nothing_is_mounted_over_the_root(box: Box, host: pathlib.Path, destination: str) -> None:
    (box.layer / "self").symlink_to("/")
    for mount in (
        Mount(destination, "bind", str(host), ("rbind",)),
        Mount(destination, "tmpfs", "tmpfs"),
        Mount(destination, "tmpfs", "", ("remount",)),
    ):
        with pytest.raises(Invalid, match=r"mounting over / is not possible.*mounts\[7\]"):
            box.run("true", mounts=(mount,))


def test_a_remount_changes_what_is_mounted_there(box: Box, host: pathlib.Path) -> None:
    again = (Mount("/t", "tmpfs", "tmpfs", ("size=1m",)), Mount("/t", "tmpfs", "tmpfs", ("remount", "ro", "size=2m", "nosuid")))
    row = box.sh("grep ' /t ' /proc/self/mountinfo", mounts=again)
    assert {"ro", "nosuid"} <= set(row.split()[5].split(",")) and "size=2048k" in row and row.count(" /t ") == 1, "one mount, changed"
    bind = (Mount("/b", "bind", str(host), ("rbind", "nodev")), Mount("/b", "bind", str(host), ("bind", "remount", "ro")))
    assert {"ro", "nodev"} <= flags(box, "/b", *bind), "a bind's own flags, those that it had included"
    with pytest.raises(Kernel, match=r"mounts\[7\]"):
        box.run("true", mounts=(Mount("/bin", "tmpfs", "tmpfs", ("remount", "ro")),))


def test_procfs_mqueue_and_sysfs_take_their_options(box: Box) -> None:
    config = box.config("sh", "-c", "ls -A /proc; echo; ls -d /dev/mqueue; ls /sys | head -1")
    pids = tuple(m._replace(options=(*m.options, "hidepid=2", "subset=pid")) if m.type == "proc" else m for m in MOUNTS)
    output = box.run_config(config._replace(mounts=pids)).output
    assert "meminfo" not in output and "\n1\n" in f"\n{output}", f"subset=pid shows processes alone: {output}"
    row = box.sh("mount | grep ' /proc '; mount | grep mqueue; mount | grep sysfs")
    assert "mqueue" in row and "sysfs" in row, "of the kernel's own kinds"


def test_a_tmpfs_that_copies_up_has_what_it_covers(box: Box, host: pathlib.Path) -> None:
    data = box.layer / "data"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "deep" / "er" / "file").write_text("text")
    (data / "link").symlink_to("/etc/shadow")
    (data / "escape").symlink_to("../../../../../../../../etc")
    os.mkfifo(data / "fifo")
    os.mknod(data / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(data / "deep", 5, 6)
    (data / "deep" / "er" / "file").chmod(0o4750)
    os.setxattr(data / "deep" / "er" / "file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    data.chmod(0o1750)
    os.utime(data / "deep" / "er" / "file", (1, 2))
    up = Mount("/data", "tmpfs", "tmpfs", ("tmpcopyup", "nodev"))
    output = box.sh(
        "cd /data; stat -c '%n %a %u:%g %F %Y' . deep deep/er/file link fifo null; readlink link; readlink escape; cat deep/er/file;"
        " touch /data/new; ls escape/; grep ' /data ' /proc/self/mountinfo",
        mounts=(Mount("/data/beneath", "bind", str(host), ("rbind",)), up),
    )
    assert ". 1750 0:0 directory" in output and "deep 755 5:6 directory" in output, f"modes and owners: {output}"
    assert "deep/er/file 4750 0:0 regular file 2" in output and "fifo" in output and "character special" in output, f"kinds: {output}"
    assert "/etc/shadow\n../../../../../../../../etc\ntext" in output, "links as they are"
    assert "tmpfs" in output and "nodev" in output, "on a tmpfs"
    assert not (box.directory / "upper" / "data" / "new").exists(), "the image stays as it is"
    assert box.sh("ls /data/beneath", mounts=(Mount("/data/beneath", "bind", str(host), ("rbind",)), up)) == "", (
        "of what is mounted there the place alone"
    )
    small = Mount("/data", "tmpfs", "tmpfs", ("tmpcopyup", "size=4k", "nr_inodes=3"))
    with pytest.raises(Kernel, match=r"/data.*No space left.*mounts\[7\]"):
        box.run("true", mounts=(small,))
    with pytest.raises(Invalid, match="tmpcopyup is a tmpfs's"):
        box.run("true", mounts=(Mount("/data", "mqueue", "mqueue", ("tmpcopyup",)),))


def test_a_copied_file_keeps_its_capabilities_and_its_own_attributes(tmp_path: pathlib.Path) -> None:
    source, destination = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    destination.mkdir()
    (source / "ping").write_bytes(b"x")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(source / "ping", "security.capability", capability)
    os.setxattr(source / "ping", "user.note", b"a")
    os.chown(source / "ping", 7, 8)
    os.setxattr(source / "ping", "security.capability", capability)
    tree.copy_directory(os.open(source, os.O_RDONLY), os.open(destination, os.O_RDONLY))
    assert os.getxattr(destination / "ping", "security.capability") == capability, "a change of owner does not take them away"
    assert os.getxattr(destination / "ping", "user.note") == b"a" and (destination / "ping").stat().st_uid == 7, "and the rest"


def test_a_tree_too_deep_to_copy_up_is_refused(box: Box) -> None:
    (box.layer / "deep").mkdir()
    here = os.open(box.layer / "deep", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        following = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = following
    os.close(here)
    with pytest.raises(Kernel, match=r"/deep.*mounts\[7\]"):
        box.run("true", mounts=(Mount("/deep", "tmpfs", "tmpfs", ("tmpcopyup",)),))
    subprocess.run(["rm", "-rf", str(box.layer / "deep")], check=True)


# -- idmapped mounts --------------------------------------------------------------------------------------------------------


@needs("mount_setattr (Linux 5.12)")
def test_an_idmapped_bind_shows_owners_through_its_mapping(box: Box, host: pathlib.Path) -> None:
    (host / "seven").write_text("")
    os.chown(host / "seven", 7, 8)
    mapped = Mount("/m", "bind", str(host), ("bind", "idmap"), "", *MAPPING)
    output = box.sh("stat -c %u:%g /m/file /m/seven; touch /m/new; echo $?", mounts=(mapped,))
    assert output.split()[:2] == ["100000:200000", "100007:200008"], "what is 0 on disk is 100000 inside"
    assert output.split()[-1] != "0", "root is nobody there, and makes no files that would be nobody's"
    plain = box.sh("stat -c %u:%g /m/file", mounts=(mapped._replace(options=("bind",)),))
    assert plain.split() == ["100000:200000"], "mappings mean it without the word too"


@needs("mount_setattr (Linux 5.12)")
def test_an_idmapped_bind_takes_the_containers_mapping_when_it_has_none(host: pathlib.Path) -> None:
    mount = Mount("/m", "bind", str(host), ("bind", "idmap"))
    container = Linux(uid_mappings=MAPPING[0], gid_mappings=MAPPING[1])
    seen = in_namespace(
        "from bayplan.kernel import mounts\n"
        "from bayplan.model.runtime import *\n"
        "fd = mounts.open_source(eval(sys.argv[1]), eval(sys.argv[2]))\n"
        "print(os.stat('file', dir_fd=os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)).st_uid)\n",
        repr(mount),
        repr(container),
    )
    assert seen.split() == ["100000"], "the container's"
    for nothing in (None, Linux()):
        with pytest.raises(Invalid, match="/m: idmap needs uidMappings"):
            mounts.open_source(mount, nothing)
    userns = idmap.open_mapping(*MAPPING)
    joined = Linux((Namespace("user", f"/proc/self/fd/{userns}"),))
    fd = mounts.open_source(mount, joined)
    inner = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    assert os.stat("file", dir_fd=inner).st_uid == 100000, "that of the user namespace which it joins"
    for each in (inner, fd, userns):
        os.close(each)


@needs("mount_setattr (Linux 5.12)")
@pytest.mark.skipif(not TMPFS_MAPS, reason="a tmpfs with mapped ids needs Linux 6.3")
def test_idmapped_mounts_beneath_are_mapped_with_ridmap_only(box: Box) -> None:
    output = in_namespace(
        "from sandbox_lab import Box\n"
        "from bayplan.model.runtime import *\n"
        "base = pathlib.Path(sys.argv[1]) / 'n'; base.mkdir(); box = Box(base); top = base / 'top'; (top).mkdir()\n"
        "linux.mount('tmpfs', str(top), 'tmpfs'); (top / 'sub').mkdir()\n"
        "linux.mount('tmpfs', str(top / 'sub'), 'tmpfs'); (top / 'sub' / 'f').touch()\n"
        "for word in ('idmap', 'ridmap'):\n"
        f"    mount = Mount('/m', 'bind', str(top), ('rbind', word), '', *{MAPPING!r})\n"
        "    print(box.sh('stat -c %u /m /m/sub/f', mounts=(mount,)).split())\n",
        str(box.directory),
    )
    assert output.splitlines() == ["['100000', '0']", "['100000', '100000']"], f"the top alone, and all: {output}"


@needs("mount_setattr (Linux 5.12)")
def test_an_idmapped_mount_that_cannot_be_is_refused(box: Box, host: pathlib.Path) -> None:
    with pytest.raises(Invalid, match="only a bind can have mapped ids"):
        box.run("true", mounts=(Mount("/m", "tmpfs", "tmpfs", ("idmap",), "", *MAPPING),))
    with pytest.raises(BayplanError, match="mapped ids: its file system cannot"):
        box.run("true", mounts=(Mount("/m", "bind", "/proc", ("bind",), "", *MAPPING),))
    with pytest.raises(Invalid, match="one of them is empty"):
        box.run("true", mounts=(Mount("/m", "bind", str(host), ("bind",), "", MAPPING[0], ()),))
    with pytest.raises(NotFound, match="does not exist"):
        box.run("true", mounts=(Mount("/m", "bind", str(host / "absent"), ("bind",), "", *MAPPING),))


def children() -> str:
    return pathlib.Path("/proc/thread-self/children").read_text()


def test_a_mapping_leaves_no_process_and_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    before, processes = os.listdir("/proc/self/fd"), children()
    fd = idmap.open_mapping(*MAPPING)
    assert not os.get_inheritable(fd) and os.readlink(f"/proc/self/fd/{fd}").startswith("user:"), "a namespace's, close-on-exec"
    os.close(fd)
    with pytest.raises(BayplanError, match="empty"):
        idmap.open_mapping(MAPPING[0], ())

    def refused(flags: int) -> int:
        raise OSError(28, "No space left on device", "clone")

    monkeypatch.setattr(linux, "clone", refused)
    with pytest.raises(Kernel, match="max_user_namespaces"):
        idmap.open_mapping(*MAPPING)
    assert os.listdir("/proc/self/fd") == before, "nothing is left open"
    assert children() == processes, "and no process"


# -- where no mount goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "/proc/self/attr",
        "/proc/sys/kernel",
        "/proc/1",
        "/proc/sys/kernel/core_pattern",
        "/proc/cpuinfo/../version",
        "/link/self/attr",
        "proc/fs",
    ],
)
def test_nothing_is_mounted_inside_proc(box: Box, host: pathlib.Path, place: str) -> None:
    """CVE-2019-16884, CVE-2025-52881: what is believed of /proc decides what is written where."""
    (box.layer / "link").symlink_to("proc")
    for mount in (Mount(place, "tmpfs", "tmpfs"), Mount(place, "bind", str(host), ("rbind",))):
        with pytest.raises(BayplanError, match=r"inside /proc|No such file|Not a directory"):
            box.run("true", mounts=(mount,))


def test_files_that_are_commonly_replaced_in_proc_may_be(box: Box, host: pathlib.Path) -> None:
    binds = tuple(
        Mount(f"/proc/{name}", "bind", str(host / "file"), ("rbind", "ro")) for name in ("cpuinfo", "meminfo", "uptime", "loadavg", "stat")
    )
    assert box.sh("cat /proc/cpuinfo /proc/loadavg", mounts=binds) == "content\ncontent\n", "as lxcfs does"


def test_only_a_procfs_may_be_proc(box: Box, host: pathlib.Path) -> None:
    without = tuple(m for m in MOUNTS if m.destination != "/proc")
    for mount in (
        Mount("/proc", "tmpfs", "tmpfs"),
        Mount("/proc", "bind", str(host), ("rbind",)),
        Mount("/proc", "bind", "/proc/sys", ("rbind",)),
    ):
        with pytest.raises(Invalid, match="only a proc file system may be /proc"):
            box.run_config(box.config("true")._replace(mounts=(*without, mount)))
        with pytest.raises(Invalid, match="only a proc file system may be /proc"):
            box.run("true", mounts=(mount,))
    bound = (*without, Mount("/proc", "bind", "/proc", ("rbind",)))
    assert "cpuinfo" in box.run_config(box.config("ls", "/proc")._replace(mounts=bound)).output, "the host's own, bound"


def test_masks_are_in_the_procfs_that_was_mounted_whatever_became_of_its_name(box: Box) -> None:
    """CVE-2019-19921, CVE-2023-28642: a root file system that another container moves things in, meanwhile."""
    box.rootfs = rootfs.Plain(str(box.layer))
    for name in ("proc", "sys", "dev"):
        (box.layer / name).mkdir()
    (box.layer / "other").mkdir()
    stop = box.directory / "stop"
    racer = subprocess.Popen([sys.executable, "-c", RACER, str(box.layer / "proc"), str(box.layer / "other"), str(stop)])
    seen = refused = 0
    try:
        for _ in range(60):
            config = box.config(
                "sh", "-c", "for d in /proc /other; do cat $d/timer_list $d/keys; echo x > $d/sysrq-trigger; done 2>/dev/null; true"
            )
            config = config._replace(mounts=tuple(m for m in config.mounts if m.type in ("proc", "tmpfs")))
            try:
                output = box.run_config(config).output
                seen += 1
            except BayplanError:
                refused += 1
                continue
            assert output == "", f"nothing of the masked files is ever seen: {output[:200]}"
    finally:
        stop.touch()
        racer.wait()
    assert seen + refused == 60, "each was one or the other"


RACER = """
import os, sys, ctypes
one, other, stop = sys.argv[1:]
libc = ctypes.CDLL(None)
while not os.path.exists(stop):
    for _ in range(500):
        libc.renameat2(-100, one.encode(), -100, other.encode(), 2)
"""


@pytest.mark.parametrize("kind", ["tmpfs", "copyup", "bind"])
def test_a_racing_renamer_never_gets_a_mount_outside_whatever_is_mounted(box: Box, kind: str) -> None:
    """CVE-2021-30465, CVE-2024-45310: every way of mounting, on a target that flips between a directory and a link to the host."""
    shared, host, source = box.directory / "shared", box.directory / "host", box.directory / "source"
    for path in (shared, host, source, shared / "dir"):
        path.mkdir()
    (shared / "link").symlink_to("../../../../.." + str(host))
    (source / "marker").write_text("x")
    last = {
        "tmpfs": Mount("/v/dir/sub", "tmpfs", "tmpfs", ("ro", "rprivate")),
        "copyup": Mount("/v/dir", "tmpfs", "tmpfs", ("tmpcopyup",)),
        "bind": Mount("/v/dir/sub", "bind", str(source), ("rbind", "rro", "rslave")),
    }[kind]
    stop = box.directory / "stop"
    racer = subprocess.Popen([sys.executable, "-c", RACER, str(shared / "dir"), str(shared / "link"), str(stop)])
    try:
        for _ in range(80):
            try:
                box.run("true", mounts=(Mount("/v", "bind", str(shared), ("rbind",)), last))
            except BayplanError:
                continue
    finally:
        stop.touch()
        racer.wait()
    assert not list(host.iterdir()), "nothing was made on the host"
    assert str(host) not in pathlib.Path("/proc/self/mountinfo").read_text(), "nothing was mounted there"
    assert list(source.iterdir()) == [source / "marker"], "the source is as it was"


# -- root file system -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"])
def test_the_root_file_systems_propagation_is_as_asked(box: Box, host: pathlib.Path, word: str) -> None:
    box.rootfs = rootfs.Plain(str(box.layer))
    asked = (Mount("/b", "bind", str(host), ("rbind", "rprivate")), Mount("/c", "bind", str(host), ("rbind",)))
    rows = {
        line.split()[4]: line.split(" - ")[0].split()[6:]
        for line in box.sh("cat /proc/self/mountinfo", mounts=asked, linux={"rootfs_propagation": word}).splitlines()
    }
    fits = {
        "private": lambda f: not f,
        "slave": lambda f: not f or f[0].startswith("master:"),
        "shared": lambda f: f and f[0].startswith("shared:"),
        "unbindable": lambda f: f == ["unbindable"],
    }[word.removeprefix("r")]
    assert fits(rows["/"]), f"the root is {rows['/']}"
    assert not rows["/b"] or word == "runbindable", "a mount that says what it wants has that"
    if word.startswith("r"):
        assert fits(rows["/c"]), f"one that says nothing follows a recursive word: {rows['/c']}"
    else:
        assert not rows["/c"], "or is private"


def test_an_unknown_propagation_is_refused_by_its_fields_name(box: Box) -> None:
    with pytest.raises(Invalid, match=r"linux\.rootfsPropagation is 'everywhere'"):
        box.run("true", linux={"rootfs_propagation": "everywhere"})


def test_a_slave_root_receives_the_hosts_mounts(box: Box) -> None:
    output = in_namespace(
        "from sandbox_lab import Box, end\n"
        "from bayplan.kernel import rootfs\n"
        "base = pathlib.Path(sys.argv[1]) / 'n'; base.mkdir()\n"
        "linux.mount('tmpfs', str(base), 'tmpfs'); linux.mount('', str(base), '', linux.MS_SHARED)\n"
        "for word in ('slave', 'private'):\n"
        "    (base / word).mkdir(); box = Box(base / word); (box.layer / 'x').mkdir(); root = rootfs.Plain(str(box.layer))\n"
        "    pid = linux.clone(linux.CLONE_NEWNS)\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            rootfs.mount_rootfs(root, propagation=word)\n"
        "            rows = [r.split() for r in open('/proc/self/mountinfo')]\n"
        "            print(word, [r[6] for r in rows if r[4] == str(box.layer)][-1].split(':')[0], flush=True)\n"
        "        finally:\n"
        "            os._exit(0)\n"
        "    os.waitpid(pid, 0)\n",
        str(box.directory),
    )
    assert output.splitlines() == ["slave master", "private -"], f"only then: {output}"


# -- cgroups ----------------------------------------------------------------------------------------------------------------


def host_hierarchies() -> set[str]:
    rows = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    return {os.path.basename(row[4]) for row in rows if row[row.index("-") + 1] == "cgroup" and os.path.dirname(row[4]) == "/sys/fs/cgroup"}


@pytest.mark.skipif(not host_hierarchies(), reason="the host has no hierarchy of cgroup version 1")
@pytest.mark.parametrize("own", [True, False])
def test_of_version_1_a_container_sees_its_own_cgroup_of_each_hierarchy_that_it_is_in(box: Box, own: bool) -> None:
    spaces = NAMESPACES if own else tuple(n for n in NAMESPACES if n.type != "cgroup")
    with Limited(Resources(pids_limit=77)) as cgroup:
        output = box.sh(
            "ls /sys/fs/cgroup; echo; cat /sys/fs/cgroup/pids/pids.max; ls /sys/fs/cgroup/pids;"
            " mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x; echo; grep cgroup /proc/self/mountinfo",
            cgroup=cgroup,
            linux={"namespaces": spaces},
        )
    names, files, rows = output.split("\n\n")
    shown = {name for name in names.split() if "," not in name}
    assert shown == {name for name, _ in cgroup.directories}, f"those that it has a cgroup in, and of no other the host's: {names}"
    assert files.startswith("77\n"), f"its own limit: {files}"
    assert "Read-only file system" in output or "mkdir" not in output, "nothing can be made there"
    for row in rows.strip().splitlines():
        assert "ro" in row.split()[5].split(","), f"read-only: {row}"
    if not own:
        assert all("/.." not in row.split()[3] for row in rows.strip().splitlines()), "and nothing above it"


def test_a_hierarchy_of_two_controllers_has_both_names(tmp_path: pathlib.Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    cgroupmounts._link_controllers(directory, "cpu,cpuacct")
    cgroupmounts._link_controllers(directory, "pids")
    os.close(directory)
    assert {name: os.readlink(tmp_path / name) for name in os.listdir(tmp_path)} == {"cpu": "cpu,cpuacct", "cpuacct": "cpu,cpuacct"}, (
        "links"
    )
    assert cgroupmounts._controllers({"": "/", "name=systemd": "/a", "cpu,cpuacct": "/b"}, "rw,cpu,cpuacct") == "cpu,cpuacct", (
        "by its options"
    )
    assert cgroupmounts._controllers({"": "/", "name=systemd": "/a"}, "rw,xattr,name=systemd") == "name=systemd", "the named one"


def test_without_ro_a_container_may_write_its_own_cgroup(box: Box) -> None:
    writable = tuple(m._replace(options=BASIC) if m.type == "cgroup" else m for m in MOUNTS)
    config = box.config("sh", "-c", "d=/sys/fs/cgroup; [ -d $d/pids ] && d=$d/pids; mkdir $d/inner && rmdir $d/inner && echo made")
    with Limited(Resources()) as cgroup:
        assert box.run_config(config._replace(mounts=writable), cgroup=cgroup).output == "made\n", "as the configuration says"


# -- devices ----------------------------------------------------------------------------------------------------------------


def test_devices_have_their_mode_and_owner_whatever_the_umask_is(box: Box) -> None:
    wanted = (
        Device("/dev/a", "c", 1, 7, 0o666),
        Device("/dev/deep/er/b", "b", 7, 0, 0o2640, 3, 4),
        Device("/dev/u", "u", 1, 5, 0o600, 1000, 1000),
        Device("/dev/pipe", "p", 0, 0, 0o622),
        Device("/dev/null", "c", 1, 3, 0o600, 9, 9),
    )
    old = os.umask(0o077)
    try:
        output = box.sh("cd /dev; stat -c '%n %a %u:%g %F %t:%T' a deep/er/b u pipe null zero", linux={"devices": wanted})
    finally:
        os.umask(old)
    assert output.splitlines() == [
        "a 666 0:0 character special file 1:7",
        "deep/er/b 2640 3:4 block special file 7:0",
        "u 600 1000:1000 character special file 1:5",
        "pipe 622 0:0 fifo 0:0",
        "null 600 9:9 character special file 1:3",
        "zero 666 0:0 character special file 1:5",
    ], f"as asked, a standard one's replacement included: {output}"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (Device("/dev/x", "x", 1, 3), "type is 'x'"),
        (Device("dev/x", "c", 1, 3), "no absolute path"),
        (Device("/", "c", 1, 3), "no absolute path"),
        (Device("/dev/../etc/x", "c", 1, 3), "no absolute path"),
        (Device("/dev/x", "c", 1 << 12, 3), "out of bounds"),
        (Device("/dev/x", "c", 1, 1 << 20), "out of bounds"),
        (Device("/dev/x", "c", 1, 3, 0o10666), "out of bounds"),
        (Device("/bin/busybox", "c", 1, 3), "something else is there"),
        (Device("/dev/stdin", "c", 1, 3), "something else is there"),
    ],
    ids=str,
)
def test_a_device_that_is_none_is_refused_by_name(box: Box, device: Device, words: str) -> None:
    with pytest.raises(BayplanError, match=words) as refused:
        box.run("true", linux={"devices": (device,)})
    assert "linux.devices" in str(refused.value) and device.path in str(refused.value), "the error names both"


def test_a_node_that_is_there_and_the_same_stays(box: Box) -> None:
    (box.layer / "srv").mkdir()
    os.mknod(box.layer / "srv" / "full", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    output = box.sh(
        "stat -c '%a' /srv/full; readlink /dev/ptmx", linux={"devices": (Device("/srv/full", "c", 1, 7), Device("/dev/ptmx", "c", 5, 2))}
    )
    assert output.split() == ["600", "pts/ptmx"], "and /dev/ptmx is the container's own"


def test_nothing_is_made_in_a_dev_of_the_hosts(box: Box) -> None:
    dev = box.directory / "dev"
    dev.mkdir()
    os.mknod(dev / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    bound = (*(m for m in MOUNTS if not m.destination.startswith("/dev")), Mount("/dev", "bind", str(dev), ("rbind",)))
    config = box.config("true")._replace(mounts=bound)
    there = config.linux._replace(devices=(Device("/dev/null", "c", 1, 3),))
    assert box.run_config(config._replace(linux=there)).status == 0, "one that is there is fine"
    for device, words in ((Device("/dev/full", "c", 1, 7), "no such device"), (Device("/dev/null", "c", 1, 7), "something else")):
        with pytest.raises(Invalid, match=words):
            box.run_config(config._replace(linux=config.linux._replace(devices=(device,))))
    assert os.listdir(dev) == ["null"], "the host's directory is as it was"


def test_where_nodes_cannot_be_made_the_hosts_are_bound(tmp_path: pathlib.Path) -> None:
    wanted = (Device("/dev/null", "c", 1, 3), Device("/dev/other/name", "c", 1, 7), Device("/dev/pipe", "p", 0, 0, 0o600))
    output = in_namespace(
        "from bayplan.kernel import devices, paths\n"
        "from bayplan.model.runtime import *\n"
        "root = paths.open_root(sys.argv[1])\n"
        "devices.make_devices(root, eval(sys.argv[2]), bind=True)\n"
        "rows = [line.split() for line in open('/proc/self/mountinfo') if sys.argv[1] in line]\n"
        "print(sorted(row[4].removeprefix(sys.argv[1]) for row in rows))\n"
        "print([(os.stat(sys.argv[1] + d.path).st_rdev) for d in eval(sys.argv[2])])\n"
        "from bayplan.errors import NotFound\n"
        "try: devices.make_devices(root, (Device('/dev/x', 'b', 4000, 77777),), bind=True)\n"
        "except NotFound as error: print(error)\n",
        str(tmp_path),
        repr(wanted),
    ).splitlines()
    assert output[0] == "['/dev/null', '/dev/other/name']", f"bound, but for the fifo: {output}"
    assert output[1] == str([os.makedev(1, 3), os.makedev(1, 7), 0]), "the right devices, whatever their name is"
    assert "b 4000:77777" in output[2], "what the host has not is an error"
    assert (tmp_path / "dev" / "other" / "name").is_file(), "the place is an empty file"


def test_in_a_user_namespace_the_kernel_refuses_nodes_and_the_hosts_are_bound(tmp_path: pathlib.Path) -> None:
    output = in_namespace(
        "from bayplan.kernel import devices, paths, idmap\n"
        "from bayplan.model.runtime import *\n"
        "userns = idmap.open_mapping((IdMapping(0, 0, 4294967295),), (IdMapping(0, 0, 4294967295),))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        linux.setns(userns, linux.CLONE_NEWUSER); linux.unshare(linux.CLONE_NEWNS)\n"
        "        devices.make_devices(paths.open_root(sys.argv[1]), (Device('/dev/full', 'c', 1, 7),))\n"
        "        print([line.split()[4].endswith('/dev/full') for line in open('/proc/self/mountinfo')].count(True), flush=True)\n"
        "    finally:\n"
        "        os._exit(0)\n"
        "os.waitpid(pid, 0)\n",
        str(tmp_path),
    )
    assert output.split()[-1:] == ["2"] or output.split()[-1:] == ["1"], f"bound after EPERM: {output}"


# -- beside runc ------------------------------------------------------------------------------------------------------------


RUNC = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
if [ -d /sys/fs/cgroup/memory ] && [ ! -e /sys/fs/cgroup/hugetlb/cgroup.procs ]; then  # it wants all of version 1
    mkdir /run/all && mount -t tmpfs tmpfs /run/all
    for hierarchy in /sys/fs/cgroup/*/; do
        mkdir -p "/run/all/$(basename "$hierarchy")" && mount --bind "$hierarchy" "/run/all/$(basename "$hierarchy")"
    done
    mkdir -p /run/all/hugetlb && mount -t cgroup -o hugetlb cgroup /run/all/hugetlb && mount -o remount,rw /run/all/hugetlb
    mount --move /run/all /sys/fs/cgroup
fi
rmdir /run/all 2> /dev/null
runc --root /run/runc run --bundle "$1" "$2"
status=$?
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ ! -d "$hierarchy/$2" ] || rmdir "$hierarchy/$2"
done
exit $status
"""


def by_runc(box: Box, script: str, *extra: Mount) -> str:
    """What the same container says under runc, in a mount namespace of its own."""
    if not shutil.which("runc"):
        pytest.skip("runc is not installed (Debian: runc)")
    bundle, name = box.directory / "bundle", f"bayplan-test-{os.getpid()}"
    bundle.mkdir()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    document = json.loads((bundle / "config.json").read_text())
    document["process"].update(terminal=False, args=["sh", "-c", script], env=["PATH=/bin"])
    document["root"] = {"path": str(box.layer), "readonly": False}
    document["mounts"] = [
        {"destination": m.destination, "type": m.type, "source": m.source, "options": list(m.options)} for m in (*MOUNTS, *extra)
    ]
    document["linux"].update(
        cgroupsPath=f"/{name}", devices=[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "gid": 7}]
    )
    (bundle / "config.json").write_text(json.dumps(document))
    ended = subprocess.run(["unshare", "-m", "sh", "-c", RUNC, "sh", str(bundle), name], capture_output=True, text=True, check=False)
    if "read-only file system" in ended.stderr and "hugetlb" in ended.stderr:
        pytest.skip(f"runc cannot make a cgroup here: {ended.stderr}")
    assert ended.returncode == 0, f"runc runs it: {ended.stderr}"
    return ended.stdout


def test_dev_and_mount_flags_are_as_runc_makes_them(box: Box, host: pathlib.Path) -> None:
    script = (
        "cd /dev; ls -ln | sed 's/ [A-Z][a-z][a-z] [ 0-9][0-9] [0-9:]* / /; s/  */ /g';"
        " while read a b c d place flags rest; do"
        " case $place in /proc|/sys|/dev*|/b|/t|/r) echo $place $flags;; esac; done < /proc/self/mountinfo"
    )
    extra = (
        Mount("/b", "bind", str(host), ("rbind", "ro", "nosuid", "rprivate")),
        Mount("/t", "tmpfs", "tmpfs", ("nodev", "noatime", "mode=700")),
        Mount("r", "bind", str(host), ("bind", "noexec", "nodiratime", "rprivate")),
    )
    fuse = Device("/dev/fuse", "c", 10, 229, 0o640, 0, 7)
    ours = box.sh(script, mounts=extra, linux={"devices": (fuse,)})
    theirs = by_runc(box, script, *extra)

    def rows(text: str) -> set[str]:
        # runc links what memory there is, too, where the kernel shows it; the specification does not, and it is masked everywhere
        return {row for row in text.splitlines() if not row.startswith("total") and not row.endswith("core -> /proc/kcore")}

    assert rows(ours) == rows(theirs), f"only ours: {rows(ours) - rows(theirs)}; only runc's: {rows(theirs) - rows(ours)}"


IN_USER_NAMESPACE = """
from sandbox_lab import Box, MASKED, NAMESPACES, READONLY
from bayplan.kernel import idmap, mounts, rootfs
from bayplan.model.runtime import *
linux.mount("tmpfs", "/srv", "tmpfs", 0, "mode=755")  # for a root who is nobody outside
base, host = pathlib.Path("/srv/in"), "/srv/host"
base.mkdir()
os.mkdir(host)
pathlib.Path(host, "file").write_text("content\\n")
box = Box(base)
for directory, inner, files in os.walk(base):
    for name in (".", *inner, *files):
        os.lchown(f"{directory}/{name}", 100000, 100000)
ids = ((IdMapping(0, 100000, 65536),),) * 2
extra = (
    Mount("/b", "bind", host, ("rbind", "ro", "nosuid")), Mount("/i", "bind", host, ("rbind", *sys.argv[2:])),
    Mount("/run", "tmpfs", "tmpfs", ("ro", "mode=755")), Mount("/run/x", "bind", host, ("rbind", "rro")),
    Mount("/bin2", "tmpfs", "tmpfs", ("tmpcopyup",)),
)
spaces = (*NAMESPACES, Namespace("user"))
config = box.config("true", mounts=extra, linux={"namespaces": spaces, "uid_mappings": ids[0], "gid_mappings": ids[1]})
sources = {i: mounts.open_source(m, config.linux) for i, m in enumerate(config.mounts) if mounts.is_bind(m)}
reader, writer = os.pipe()
flags = linux.CLONE_NEWUSER | linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
pid = linux.clone(flags)
if pid == 0:
    try:
        os.read(reader, 1)
        linux.set_identity(0, 0, ())
        linux.unshare(linux.CLONE_NEWCGROUP)
        root = rootfs.mount_rootfs(rootfs.Plain(str(box.layer)))
        rootfs.populate(root, config, sources)
        rootfs.populate_cgroups(root, config)
        rootfs.enter_root(root, readonly=False, nosuid=False, propagation="private")
        os.execv("/bin/sh", ["sh", "-c", sys.argv[1]])
    except BaseException as error:
        print(repr(error), flush=True)
    finally:
        os._exit(1)
for name, lines in zip(("uid_map", "gid_map"), ids):
    idmap._write_map(pid, name, idmap.map_lines(lines))
os.write(writer, b"x")
os.waitpid(pid, 0)
print("new", os.path.exists(f"{host}/new") and os.stat(f"{host}/new").st_uid)
"""


@needs("move_mount (Linux 5.2)")
def test_in_a_user_namespace_of_other_ids_all_of_it_is_mounted() -> None:
    script = (
        "exec 2>&1; cat /b/file; stat -c %u /b/file /i/file; touch /i/new; ls -l /dev/null; echo x > /dev/full;"
        " touch /b/x /run/x/y /run/z; ls -A /bin2; cat /proc/timer_list; ls /sys/fs/cgroup | head -1"
    )
    mapped = ("idmap",) if TMPFS_MAPS and not os.environ.get("BAYPLAN_OLD_KERNEL") else ()
    output = in_namespace(IN_USER_NAMESPACE, script, *mapped)
    shown = "content\n65534\n0\n" if mapped else "content\n65534\n65534\ntouch"
    assert output.startswith(shown), f"an idmapped bind shows root's files as root's, another as nobody's: {output}"
    assert "1,   3" in output and "No space left on device" in output, f"devices are the host's: {output}"
    assert output.count("Read-only file system") == 3, f"what is read-only is: {output}"
    assert output.endswith("new 0\n" if mapped else "new False\n"), f"and what root makes there is root's on the host: {output}"


SHARED = """
linux.mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755")  # for a root who is nobody outside
linux.mount("", "/", "", linux.MS_REC | linux.MS_SHARED)
from sandbox_lab import Box, NAMESPACES
from bayplan.kernel.rootfs import Plain
from bayplan.model.capabilities import granted
from bayplan.model.runtime import *
base = pathlib.Path("/mnt/base")
base.mkdir()
box = Box(base)
(box.layer / "sub").mkdir()
linux.mount("tmpfs", str(box.layer / "sub"), "tmpfs", 0, "mode=755")
(box.layer / "sub" / "deep").mkdir()
for directory, inner, files in os.walk(base):
    for name in (".", *inner, *files):
        os.lchown(f"{directory}/{name}", 100000, 100000)
box.rootfs = Plain(str(box.layer))
ids = (IdMapping(0, 100000, 65536),)
own = {"namespaces": (*NAMESPACES, Namespace("user")), "uid_mappings": ids, "gid_mappings": ids}
script = "cat /proc/self/uid_map; mount -t tmpfs x /sub/deep && echo mounted"
print(box.sh(script, capabilities=granted(privileged=True), linux=own).split())
print(str(box.layer / "sub" / "deep") in open("/proc/self/mountinfo").read())
"""


@needs("move_mount (Linux 5.2)")
def test_in_a_user_namespace_nothing_that_is_mounted_reaches_a_host_that_shares_its_mounts() -> None:
    """As every host does that systemd runs."""
    output = in_namespace(SHARED)
    assert output.splitlines() == ["['0', '100000', '65536', 'mounted']", "False"], f"it starts, and mounts for itself: {output}"
