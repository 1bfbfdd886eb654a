"""What a process in a container sees and may do, looked at from inside."""

from __future__ import annotations

import os
import pathlib
import re
import stat
import struct

import pytest
from kernel_lab import needs
from sandbox_lab import BASIC, MOUNTS, Box, close_pidfd, end, finish, reap, run_in

from bayplan.errors import BayplanError, Invalid, Kernel, NotFound
from bayplan.kernel import sandbox
from bayplan.kernel.process import ProgramNotFound, ProgramRefused
from bayplan.kernel.rootfs import Plain
from bayplan.model.capabilities import granted
from bayplan.model.runtime import Device, Mount, Namespace, Rlimit, User

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts")


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    return Box(tmp_path)


def test_the_first_process_is_alone_in_its_namespaces(box: Box) -> None:
    output = box.sh(
        "echo $$; ls /proc | grep -c '^[0-9]'; ls /sys/class/net; hostname; dnsdomainname 2>/dev/null; cat /proc/sys/kernel/domainname",
        hostname="box",
        domainname="example.org",
    )
    assert output.split()[0] == "1", "it is process 1"
    assert "lo" in output.split() and "eth0" not in output.split(), "only the loopback interface"
    assert "box" in output.split() and output.split()[-1] == "example.org", "its names are its own"
    for name in ("pid", "net", "mnt", "ipc", "uts", "cgroup"):
        assert box.sh(f"readlink /proc/self/ns/{name}").strip() != os.readlink(f"/proc/self/ns/{name}"), (
            f"{name} is private"
        )


def test_nothing_is_mounted_in_the_hosts_namespace(box: Box) -> None:
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    started = box.background("sleep", "60")
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before, "the host's table is as it was"
    points = {line.split()[4] for line in pathlib.Path(f"/proc/{started.pid}/mountinfo").read_text().splitlines()}
    assert not [p for p in points if p.startswith(("/tmp", "/var", "/root", str(box.directory)))], (
        "and the host's tree is gone inside"
    )
    end(started)


def test_the_process_has_three_descriptors_and_a_clean_environment(box: Box) -> None:
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    os.environ["LD_PRELOAD_TEST"] = "leak"
    try:
        assert box.sh("cd /proc/self/fd; echo *").split() == ["0", "1", "2", "3"], (
            "0 to 2, and the shell's own on the directory"
        )
        assert set(box.sh("env").split()) == {"PATH=/bin", "HOME=/", "SHLVL=1", "PWD=/"}, (
            "only what was asked for, and HOME"
        )
    finally:
        os.close(leak)
        del os.environ["LD_PRELOAD_TEST"]


def test_capabilities_are_exactly_those_granted(box: Box) -> None:
    def masks(**fields: object) -> dict[str, int]:
        rows = box.sh("grep -E '^(Cap|NoNew)' /proc/self/status", **fields).split("\n")
        return {row.split(":")[0]: int(row.split(":")[1], 16) for row in rows if row}

    fourteen = 0xA80425FB
    own = int(re.findall(r"CapBnd:\t(\w+)", pathlib.Path("/proc/self/status").read_text())[0], 16)
    assert masks() == {
        "CapInh": 0,
        "CapPrm": fourteen,
        "CapEff": fourteen,
        "CapBnd": fourteen,
        "CapAmb": 0,
        "NoNewPrivs": 0,
    }, "Docker's"
    user = masks(user=User(username="1000:1000"))
    assert (user["CapPrm"], user["CapEff"], user["CapInh"], user["CapBnd"]) == (0, 0, 0, fourteen), (
        "a user has none, but may gain them"
    )
    strict = masks(capabilities=granted(strict=True), no_new_privileges=True)
    assert strict["NoNewPrivs"] == 1 and bin(strict["CapBnd"]).count("1") == 11, "the strict profile"
    assert masks(capabilities=granted(privileged=True))["CapEff"] == own, "privileged has all that this host may give"


def test_signals_mask_priority_and_umask_are_reset(box: Box) -> None:
    import signal

    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        rows = dict(
            line.split(":\t")
            for line in box.sh("grep Sig /proc/self/status; umask | sed 's/^/umask:\\t/'").splitlines()
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        signal.signal(signal.SIGHUP, ignored)
    assert (rows["SigBlk"], rows["SigIgn"]) == ("0" * 16, "0" * 16), "nothing blocked, nothing ignored"
    assert rows["umask"] == "0022", "the usual umask"
    assert box.sh("cat /proc/self/oom_score_adj").strip() == "0", "an sshd's protection is not inherited"
    assert box.sh("cat /proc/self/oom_score_adj", oom_score_adj=500).strip() == "500", "what was asked for"


def test_devices_are_the_standard_ones_and_those_asked_for(box: Box) -> None:
    extra = Device("/dev/sub/fuse", "c", 10, 229, 0o640, 3, 4)
    listing = box.sh(
        "ls -ln /dev /dev/sub; echo x > /dev/null; head -c 2 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c",
        linux={"devices": (extra,)},
    )
    for name, number in (
        ("null", "1,   3"),
        ("zero", "1,   5"),
        ("full", "1,   7"),
        ("random", "1,   8"),
        ("urandom", "1,   9"),
        ("tty", "5,   0"),
    ):
        assert re.search(rf"^crw-rw-rw-.*{number}.* {name}$", listing, re.M), f"/dev/{name}: {listing}"
    assert re.search(r"^crw-r-----.* 3 +4 +10, 229.* fuse$", listing, re.M), (
        "owner, group and mode of the one asked for"
    )
    for name in ("fd -> /proc/self/fd", "stdin -> /proc/self/fd/0", "stderr -> /proc/self/fd/2", "ptmx -> pts/ptmx"):
        assert name in listing, f"the link {name}"
    assert listing.split()[-2:] == ["2", "5"], "and they work"


def test_masked_and_readonly_paths_are_so(box: Box) -> None:
    output = box.sh(
        "for p in /proc/keys /proc/timer_list /proc/interrupts; do wc -c < $p; done; ls /sys/firmware /proc/acpi"
    )
    assert output.split()[:3] == ["0", "0", "0"], "masked files read empty"
    assert output.split()[3:] == ["/proc/acpi:", "/sys/firmware:"], f"masked directories are empty: {output}"
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/x",
    ):
        assert "Read-only" in box.run("sh", "-c", f"echo x > {path}").output, f"{path} cannot be written"
    assert "Read-only" in box.run("sh", "-c", "mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/x").output, (
        "cgroups neither"
    )


def test_a_readonly_root_keeps_its_mounts_writable(box: Box) -> None:
    ended = box.run(
        "sh",
        "-c",
        "touch /x; touch /tmp/y && echo tmp; touch /dev/shm/z && echo shm",
        readonly=True,
        mounts=(Mount("/tmp", "tmpfs", "tmpfs", BASIC),),
    )
    assert "Read-only" in ended.output and "tmp\nshm" in ended.output, "the root refuses, tmpfs does not"


def test_tmpfs_takes_its_options_or_the_mode_of_what_it_covers(box: Box) -> None:
    (box.layer / "scratch").mkdir()
    (box.layer / "scratch").chmod(0o1770)
    mounts = (Mount("/scratch", "tmpfs", "tmpfs", BASIC), Mount("/small", "tmpfs", "tmpfs", ("size=64k", "mode=700")))
    output = box.sh("stat -c %a /scratch /small; df -k /small | tail -1", mounts=mounts)
    assert output.split()[:2] == ["1770", "700"] and " 64 " in output, "mode and size"


def test_bind_mounts_of_files_and_directories(box: Box) -> None:
    host = box.directory / "host"
    host.mkdir()
    (host / "file").write_text("content\n")
    mounts = (
        Mount("/new/dir", "bind", str(host), ("rbind", "rprivate")),
        Mount("/etc/file", "bind", str(host / "file"), ("rbind", "ro")),
    )
    output = box.run(
        "sh", "-c", "cat /etc/file; echo y > /etc/file; echo z > /new/dir/made; ls /new/dir", mounts=mounts
    ).output
    assert output.startswith("content\n") and "Read-only" in output, "a read-only file"
    assert (host / "made").read_text() == "z\n", "a directory that can be written"
    assert (box.directory / "upper" / "new" / "dir").is_dir(), "the target is made inside the container"


def test_flags_of_the_source_survive_a_bind(box: Box) -> None:
    row = box.sh("grep ' /b ' /proc/self/mountinfo", mounts=(Mount("/b", "bind", "/proc", ("rbind", "ro")),))
    source = next(
        line.split()[5]
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4] == "/proc"
    )
    for flag in {"nosuid", "nodev", "noexec"} & set(source.split(",")):
        assert flag in row.split()[5].split(","), f"{flag} of the host's /proc"


@needs("move_mount (Linux 5.2)")
def test_propagation_and_recursive_readonly_are_as_asked(box: Box) -> None:
    import subprocess

    script = box.directory / "script.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path[:0] = {[p for p in os.sys.path if p]!r}\n"
        "from sandbox_lab import Box, finish, end\n"
        "from bayplan.kernel import linux\n"
        "from bayplan.model.runtime import Mount\n"
        "import pathlib\n"
        "linux.unshare(linux.CLONE_NEWNS); linux.mount('', '/', '', linux.MS_REC | linux.MS_PRIVATE)\n"
        "base = pathlib.Path(sys.argv[1]); base.mkdir(); shared = base / 'shared'; shared.mkdir()\n"
        "linux.mount('tmpfs', str(shared), 'tmpfs'); linux.mount('', str(shared), '', linux.MS_SHARED); (shared / 'x').mkdir()\n"
        "for kind in ('rprivate', 'rslave', 'rshared'):\n"
        "    box = Box(base / kind)\n"
        "    started = box.background('sleep', '60', mounts=(Mount('/s', 'bind', str(shared), ('rbind', kind)),))\n"
        "    linux.mount('tmpfs', str(shared / 'x'), 'tmpfs')\n"
        "    print(kind, '/s/x' in open(f'/proc/{started.pid}/mountinfo').read(), flush=True)\n"
        "    linux.umount(str(shared / 'x'))\n"
        "    end(started)\n"
        "linux.mount('tmpfs', str(shared / 'x'), 'tmpfs')\n"
        "for kind in ('ro', 'rro'):\n"
        "    box = Box(base / kind)\n"
        "    ended = box.run('sh', '-c', 'touch /s/x/y', mounts=(Mount('/s', 'bind', str(shared), ('rbind', kind)),))\n"
        "    print(kind, 'Read-only' in ended.output, flush=True)\n"
    )
    output = subprocess.run(
        [os.sys.executable, str(script), str(box.directory / "p")], capture_output=True, text=True, check=False
    )
    assert output.stdout.split("\n")[:3] == ["rprivate False", "rslave True", "rshared True"], f"{output}"
    assert output.stdout.split("\n")[3:5] == ["ro False", "rro True"], (
        f"ro is the top's alone, rro all mounts': {output}"
    )


def test_rlimits_are_set(box: Box) -> None:
    output = box.sh(
        "ulimit -n; ulimit -Hn; ulimit -c", rlimits=(Rlimit("RLIMIT_NOFILE", 100, 200), Rlimit("RLIMIT_CORE", 0, 0))
    )
    assert output.split() == ["100", "200", "0"], "soft and hard"
    with pytest.raises(Invalid, match="RLIMIT_FLY"):
        box.run("true", rlimits=(Rlimit("RLIMIT_FLY", 1, 1),))


def test_the_user_comes_from_the_images_own_files(box: Box) -> None:
    (box.layer / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    (box.layer / "etc" / "group").write_text("audio:x:29:app\nstaff:x:50:\n")
    assert box.sh("id; echo $HOME", user=User(username="app")).split("\n")[:2] == [
        "uid=1000(app) gid=1001 groups=29(audio),1001",
        "/home/app",
    ], "by name"
    assert "uid=7 gid=50(staff)" in box.sh("id", user=User(username="7:staff")), "number and group name"
    assert box.sh("id -G", user=User(3, 4, (5, 6))).split() == ["4", "5", "6"], "numbers as they are"
    with pytest.raises(NotFound, match="ghost"):
        box.run("true", user=User(username="ghost"))


@pytest.mark.parametrize("kind", ["link", "fifo", "giant", "directory", "device"])
def test_an_odd_passwd_is_neither_followed_nor_waited_for(box: Box, kind: str) -> None:
    path = box.layer / "etc" / "passwd"
    {
        "link": lambda: path.symlink_to("/../../../../../../etc/passwd"),
        "fifo": lambda: os.mkfifo(path),
        "giant": lambda: (path.write_text("app:x:0:0::/:\n"), os.truncate(path, 1 << 34)),
        "directory": path.mkdir,
        "device": lambda: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
    }[kind]()
    with pytest.raises(BayplanError):
        box.run("true", user=User(username="app"))
    assert box.sh("grep Uid /proc/self/status", user=User(username="12")).split()[1] == "12", "numbers need no file"


def test_the_working_directory_is_made_inside(box: Box) -> None:
    assert box.sh("pwd", cwd="/a/b/c").strip() == "/a/b/c", "made where it was missing"
    (box.layer / "away").symlink_to("/../../../../" + str(box.directory / "host"))
    assert box.sh("pwd", cwd="/away/x").strip() == f"{box.directory}/host/x", "a link stays inside"
    assert not (box.directory / "host").exists(), "nothing was made on the host"


@pytest.mark.parametrize(
    "cwd", ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/self/fd/10/../../..", "/proc/1/root", "/proc/self/cwd"]
)
def test_a_working_directory_through_a_descriptor_is_refused(box: Box, cwd: str) -> None:
    with pytest.raises((Kernel, Invalid)):
        box.run("cat", "/etc/shadow", cwd=cwd)


def test_a_missing_program_is_127_and_one_that_cannot_run_126(box: Box) -> None:
    (box.layer / "bin" / "data").write_text("no program")
    (box.layer / "bin" / "noexec").write_bytes(b"\x00\x01\x02\x03")
    (box.layer / "bin" / "noexec").chmod(0o755)
    (box.layer / "bin" / "script").write_text("#!/no/such/interpreter\n")
    (box.layer / "bin" / "script").chmod(0o755)
    for args, error, code in [
        (("nosuch",), ProgramNotFound, 127),
        (("/no/such",), ProgramNotFound, 127),
        (("script",), ProgramNotFound, 127),
        (("data",), ProgramRefused, 126),
        (("/etc",), ProgramRefused, 126),
        (("noexec",), ProgramRefused, 126),
    ]:
        for init in (False, True):
            with pytest.raises(error) as caught:
                box.run(*args, init=init)
            assert caught.value.exit_code == code, f"{args}"
            assert args[0] in str(caught.value), "the message names the program"


def test_a_failed_start_leaves_no_process_and_no_descriptor(box: Box) -> None:
    def count() -> tuple[int, int]:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return len(os.listdir("/proc/self/fd")), len(file.read().split())

    before = count()
    for fields in ({"user": User(username="ghost")}, {"mounts": (Mount("/x", "nosuchfs"),)}, {"cwd": "relative"}):
        with pytest.raises(BayplanError):
            box.run("true", **fields)
    with pytest.raises(NotFound):
        box.run("true", mounts=(Mount("/x", "bind", "/no/such/source"),))
    with pytest.raises(NotFound):
        box.run("true", linux={"namespaces": (Namespace("mount"), Namespace("network", "/proc/999999999/ns/net"))})
    assert count() == before, "descriptors and children as before"


def test_a_terminal_is_the_containers_own(box: Box) -> None:
    config = box.config(
        "sh",
        "-c",
        "tty; test -t 0 && echo yes; stty size; ls -l /dev/console | cut -c1; ps -o pid,tty | head -2; exit 3",
        terminal=True,
        console_size=(33, 99),
    )
    started = sandbox.start(sandbox.create(config, box.rootfs, cgroup=None, stdio=None))
    ended = finish(started, started.terminal)
    assert ended.status == 3 and ended.output.split("\n")[:4] == ["/dev/pts/0", "yes", "33 99", "c"], ended.output


def test_init_forwards_signals_reaps_and_ends_like_its_child(box: Box) -> None:
    import time

    assert box.run("sh", "-c", "exit 9", init=True).status == 9, "its status"
    assert box.run("sh", "-c", "kill -9 $$", init=True).status == 128 + 9, "its signal"
    assert box.sh("sh -c 'sleep 0.1 & exit' ; sleep 0.3; ps -o stat | grep -c Z; true", init=True).strip() == "0", (
        "orphans are reaped"
    )
    (box.layer / "ready").mkdir()
    started = box.background(
        "sh", "-c", "trap 'exit 5' TERM; touch /ready/now; while :; do sleep 0.05; done", init=True
    )
    while not (box.directory / "upper" / "ready" / "now").exists():
        time.sleep(0.01)
    os.kill(started.pid, 15)
    from sandbox_lab import reap

    assert reap(started) == 5, "SIGTERM reached the child"


def test_sysctls_are_the_containers_own_only(box: Box) -> None:
    assert box.sh(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmax",
        linux={"sysctl": (("net.ipv4.ip_unprivileged_port_start", "77"), ("kernel.shmmax", "4096"))},
    ).split() == ["77", "4096"], "set inside"
    assert pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() != "77", "not outside"
    for name in (
        "kernel.core_pattern",
        "vm.swappiness",
        "net.../../kernel/core_pattern",
        "net/../kernel/core_pattern",
        "kernel.shmmax/../core_pattern",
        "net..x",
    ):
        with pytest.raises(BayplanError):
            box.run("true", linux={"sysctl": ((name, "1"),)})
    shared = tuple(Namespace(n) for n in ("mount", "pid"))
    with pytest.raises(Invalid, match="network"):
        box.run("true", linux={"namespaces": shared, "sysctl": (("net.ipv4.ip_forward", "1"),)})


def test_namespaces_can_be_shared_with_the_host_or_another_container(box: Box) -> None:
    first = box.background("sleep", "60", hostname="first")
    try:
        second = Box(box.directory / "second")
        joined = tuple(
            Namespace(n, f"/proc/{first.pid}/ns/{f}")
            for n, f in (("network", "net"), ("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"))
        )
        output = second.sh(
            "hostname; ps | grep -c 'sleep 60'; readlink /proc/self/ns/net",
            linux={"namespaces": (Namespace("mount"), *joined)},
        )
        assert output.split()[0] == "first" and int(output.split()[1]) >= 1, "names and processes of the other"
        assert output.split()[2] == os.readlink(f"/proc/{first.pid}/ns/net"), "its network"
        assert os.readlink("/proc/self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid"), (
            "this process came back"
        )
        host = Box(box.directory / "third").sh(
            "readlink /proc/self/ns/net; readlink /proc/self/ns/pid", linux={"namespaces": (Namespace("mount"),)}
        )
        assert host.split() == [os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/pid")], (
            "none listed, the host's"
        )
        with pytest.raises(Kernel):
            second.run(
                "true", linux={"namespaces": (Namespace("mount"), Namespace("network", f"/proc/{first.pid}/ns/uts"))}
            )
    finally:
        end(first)


def test_entering_gives_the_containers_view_and_a_process_of_its_own(box: Box) -> None:
    (box.layer / "etc" / "passwd").write_text("app:x:1000:1001::/home/app:/bin/sh\n")
    started = box.background("sleep", "60", hostname="inside")
    try:
        output = run_in(
            started.pid,
            "sh",
            "-c",
            "hostname; id -u; pwd; ps | grep -c 'sleep 60'; cd /proc/self/fd; echo *; grep CapInh /proc/self/status",
            user=User(username="app"),
            cwd="/etc",
        ).output
        assert output.split("\n")[:3] == ["inside", "1000", "/etc"], output
        assert "0 1 2 3\n" in output, "no descriptor but three, and the shell's own"
        assert "CapInh:\t0000000000000000" in output, "nothing inheritable"
        for name in ("pid", "net", "mnt", "ipc", "uts", "cgroup"):
            inside = run_in(started.pid, "readlink", f"/proc/self/ns/{name}").output.strip()
            assert inside == os.readlink(f"/proc/{started.pid}/ns/{name}"), f"{name} is the container's"
        with pytest.raises(NotFound, match="working directory"):
            run_in(started.pid, "true", cwd="/no/such")
        with pytest.raises(ProgramNotFound):
            run_in(started.pid, "nosuch")
        assert os.readlink("/proc/self/ns/pid_for_children") == os.readlink("/proc/self/ns/pid"), (
            "this process came back"
        )
    finally:
        end(started)


def test_entering_what_has_ended_says_so(box: Box) -> None:
    started = box.background("sleep", "60")
    os.kill(started.pid, 9)
    os.waitpid(started.pid, 0)
    with pytest.raises(NotFound):
        run_in(started.pid, "true")
    close_pidfd(started)


def test_a_plain_directory_is_a_root_file_system_too(box: Box) -> None:
    box.rootfs = Plain(str(box.layer))
    assert box.sh("touch /made; pwd").strip() == "/", "no overlay needed"
    assert (box.layer / "made").exists(), "written in place"


def test_a_strict_root_file_system_is_nosuid(box: Box) -> None:
    box.rootfs = box.rootfs._replace(nosuid=True)
    assert "nosuid" in box.sh("grep ' / / ' /proc/self/mountinfo").split()[5], "setuid files have no effect"


def test_a_caller_that_dies_takes_the_waiting_child_along(box: Box) -> None:
    reader, writer = os.pipe()
    builder = os.fork()
    if not builder:
        created = sandbox.create(box.config("sleep", "60"), box.rootfs, cgroup=None, stdio=(0, 1, 2))
        os.write(writer, struct.pack("=i", created.pid))
        os._exit(0)
    pid = struct.unpack("=i", os.read(reader, 4))[0]
    os.waitpid(builder, 0)
    os.close(reader), os.close(writer)
    for _ in range(200):
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        os.sched_yield()
        import time

        time.sleep(0.01)
    raise AssertionError("the child outlived its builder")


def test_the_mounts_of_the_default_list_are_there(box: Box) -> None:
    points = {line.split()[4] for line in box.sh("cat /proc/self/mountinfo").splitlines()}
    assert {m.destination for m in MOUNTS} <= points, "all of them"


def test_output_can_be_opened_again_by_its_name(box: Box) -> None:
    """An image's user writes to /dev/stdout: the pipe is that user's; a device of the host's is not given away."""
    user = User(username="1000")
    assert box.sh("echo again > /dev/stdout; echo twice >> /dev/stderr", user=user) == "again\ntwice\n", "the pipe is its own"
    created = sandbox.create(
        box.config("sh", "-c", "test -O /dev/fd/0", user=User(username="1000"), terminal=True), box.rootfs, cgroup=None, stdio=None
    )
    started = sandbox.start(created)
    assert finish(started, started.terminal).status == 0, "the terminal is its own"
    before = os.stat("/dev/zero").st_uid
    zero = os.open("/dev/zero", os.O_RDWR)
    reap(sandbox.start(sandbox.create(box.config("true", user=user), box.rootfs, cgroup=None, stdio=(zero, zero, zero))))
    os.close(zero)
    assert os.stat("/dev/zero").st_uid == before, "a device of the host's keeps its owner"
