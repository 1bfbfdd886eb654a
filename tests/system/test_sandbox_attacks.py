"""What runtimes were broken by, tried against this one. Names of advisories are in the tests they belong to."""

from __future__ import annotations

import hashlib
import os
import pathlib
import stat
import subprocess
import sys

import pytest
from sandbox_lab import DEVICE_RULES, Box, Limited, compile_c, end, run_in

from bayplan.errors import BayplanError, Invalid
from bayplan.kernel import linux, paths, rootfs, seccomp
from bayplan.kernel.rootfs import Plain
from bayplan.model.capabilities import DEFAULT
from bayplan.model.runtime import Mount, Resources, Seccomp, User

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts")
FILTER = seccomp.filter_bytes(Seccomp(), DEFAULT, machine=linux.MACHINE)


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Box:
    return Box(tmp_path)


def interpreter_hash() -> str:
    return hashlib.sha256(pathlib.Path(f"/proc/{os.getpid()}/exe").read_bytes()).hexdigest()


OVERWRITE = """
#include <fcntl.h>
#include <stdio.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <dirent.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    if (argc > 2) return 0;
    DIR *d = opendir("/proc");
    struct dirent *e;
    int found = 0;
    while ((e = readdir(d))) {
        char path[300], link[300];
        int n;
        if (!atoi(e->d_name)) continue;
        snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
        n = readlink(path, link, sizeof link - 1);
        if (n < 0) continue;
        link[n] = 0;
        if (!strstr(link, "python") && !strstr(link, "memfd")) continue;
        found = 1;
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        fd = open(path, O_WRONLY);
        if (fd < 0) continue;
        if (strstr(link, "python")) printf("WRITABLE\\n");
        else if (write(fd, "x", 1) == 1) printf("SEAL BROKEN\\n");
        close(fd);
    }
    printf("done %d\\n", found);
    return 0;
}
"""


@pytest.mark.parametrize("entry", ["/proc/self/exe", "/bin/hashbang"])
def test_an_entry_point_that_is_the_runtime_itself_reaches_nothing_of_the_host(box: Box, entry: str) -> None:
    """CVE-2019-5736: the first program is not the host's interpreter, at start and at exec."""
    before = interpreter_hash()
    (box.layer / "bin" / "hashbang").write_text("#!/proc/self/exe\n")
    (box.layer / "bin" / "hashbang").chmod(0o755)
    started = box.background("sleep", "60")
    for attempt in (lambda: box.run(entry, "x"), lambda: run_in(started.pid, entry, "x")):
        try:
            ended = attempt()
            assert ended.status != 0 and "Python" not in ended.output, f"not the interpreter: {ended}"
        except BayplanError:
            pass
    end(started)
    assert interpreter_hash() == before, "the interpreter is as it was"


def test_no_process_in_the_container_is_ever_the_interpreter(box: Box) -> None:
    """CVE-2019-5736: a container's root that watches /proc while others enter sees no executable of the host's."""
    compile_c(box.layer / "bin", "overwrite", OVERWRITE)
    started = box.background("sh", "-c", "while :; do overwrite >> /log 2>&1; done")
    for _ in range(40):
        run_in(started.pid, "true")
    end(started)
    log = (box.directory / "upper" / "log").read_text()
    assert "done" in log and "WRITABLE" not in log and "SEAL" not in log, "nothing to write to was ever there"


CALLS = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/personality.h>
#define TRY(name, ...) printf("%s %d\\n", name, syscall(__VA_ARGS__) < 0 ? errno : 0)
int main(void) {
    TRY("unshare", SYS_unshare, CLONE_NEWUSER);
    TRY("clone", SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0);
    TRY("mount", SYS_mount, "x", "/", "tmpfs", 0, 0);
    TRY("keyctl", SYS_keyctl, 0, 0, 0, 0, 0);
    TRY("bpf", SYS_bpf, 0, 0, 0);
    TRY("perf", SYS_perf_event_open, 0, 0, 0, 0, 0);
    TRY("userfaultfd", 323, 0);
    TRY("io_uring", 425, 1, 0);
    TRY("open_by_handle", SYS_open_by_handle_at, 0, 0, 0);
    TRY("kexec", SYS_kexec_load, 0, 0, 0, 0);
    TRY("module", SYS_init_module, 0, 0, 0);
    TRY("reboot", SYS_reboot, 0, 0, 0, 0);
    TRY("alg", SYS_socket, 38, 5, 0);
    TRY("vsock", SYS_socket, 40, 1, 0);
    TRY("personality", SYS_personality, 0x40000);
    TRY("clone3", 435, 0, 0);
    TRY("newer", 600, 0, 0);
    TRY("x32", 0x40000000 | 39, 0);
    TRY("socket", SYS_socket, 2, 1, 0);
    return 0;
}
"""
CALLS_32 = """
static int call(int n, int a, int b, int c) {
    int r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
    return r;
}
void _start(void) {
    int ok = call(359, 38, 5, 0) == -1 && call(310, 0x10000000, 0, 0) == -1 && call(288, 0, 0, 0) == -1
        && call(102, 1, 0, 0) == -38 && call(21, 0, 0, 0) == -1 && call(20, 0, 0, 0) > 0 && call(359, 2, 1, 0) >= 0;
    call(1, ok ? 42 : 1, 0, 0);
}
"""


def test_the_default_filter_refuses_the_calls_that_broke_others(box: Box) -> None:
    compile_c(box.layer / "bin", "calls", CALLS)
    rows = dict(line.split() for line in box.run("calls", seccomp=FILTER).output.splitlines())
    for name in ("clone3", "newer", "x32"):
        assert rows.pop(name) == "38", f"{name} does not exist"
    assert rows.pop("socket") == "0", "an ordinary socket"
    assert set(rows.values()) == {"1"}, f"EPERM for all others: {rows}"
    started = box.background("sleep", "60")
    entered = dict(line.split() for line in run_in(started.pid, "calls", seccomp=FILTER).output.splitlines())
    end(started)
    assert entered["unshare"] == "1" == entered["keyctl"], "and for what enters"


@pytest.mark.skipif(linux.MACHINE != "x86_64", reason="the 32-bit entry of x86-64")
def test_the_32_bit_entry_is_no_way_around_the_filter(box: Box) -> None:
    compile_c(
        box.layer / "bin",
        "calls32",
        CALLS_32,
        "-nostdlib",
        "-ffreestanding",
        "-fno-stack-protector",
        "-fno-pie",
        "-no-pie",
    )
    status = box.run("calls32", seccomp=FILTER).status
    if status == -11:
        pytest.skip("this kernel has no 32-bit entry")
    assert status == 42, "socket(AF_ALG), unshare, keyctl, socketcall, mount are refused there too"


def test_a_filter_without_new_privileges_is_installed_for_a_user_too(box: Box) -> None:
    rows = box.run(
        "grep", "Seccomp:", "/proc/self/status", seccomp=FILTER, user=User(username="1000"), no_new_privileges=True
    )
    assert rows.output.split() == ["Seccomp:", "2"], "with no_new_privs, after the change of user"
    rows = box.run("grep", "Seccomp:", "/proc/self/status", seccomp=FILTER, user=User(username="1000"))
    assert rows.output.split() == ["Seccomp:", "2"], "without it, before"


@pytest.mark.parametrize("directory", ["dev", "proc", "sys"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_in_place_of_a_system_directory_stays_inside(box: Box, directory: str, absolute: bool) -> None:
    """CVE-2026-41579 and -47766: nothing is mounted or made on the host."""
    host = box.directory / "host"
    host.mkdir()
    (box.layer / directory).symlink_to(str(host) if absolute else "../../../../.." + str(host))
    if directory == "dev":
        box.run("true")
        assert (box.directory / "upper" / str(host).lstrip("/")).is_dir(), "it was made inside"
    else:
        with pytest.raises(Invalid, match="plain directory"):  # what is masked in it is looked for by name
            box.run("true")
    assert list(host.iterdir()) == [], "the host's directory is empty"


def test_links_at_mount_targets_stay_inside(box: Box) -> None:
    """CVE-2021-30465 and its like, without the race."""
    host, source = box.directory / "host", box.directory / "source"
    host.mkdir()
    source.mkdir()
    (source / "secret").write_text("x")
    (box.layer / "data").symlink_to("/link")
    (box.layer / "link").symlink_to("../../.." + str(host))
    (box.layer / "loop").symlink_to("loop")
    assert box.sh("ls /data", mounts=(Mount("/data", "bind", str(source), ("rbind",)),)).split() == ["secret"], (
        "mounted where the link leads inside"
    )
    assert list(host.iterdir()) == [], "nothing outside"
    with pytest.raises(BayplanError):
        box.run("true", mounts=(Mount("/loop/x", "bind", str(source), ("rbind",)),))
    with pytest.raises(BayplanError):
        box.run("true", mounts=(Mount("/proc/self/fd/3/x", "bind", str(source), ("rbind",)),))
    with pytest.raises(BayplanError):
        box.run("true", mounts=(Mount("/", "bind", str(source), ("rbind",)),))


def test_a_racing_renamer_never_gets_a_mount_outside(box: Box) -> None:
    """CVE-2021-30465, CVE-2024-45310: a target that flips between a directory and a link to the host."""
    shared, host, source = box.directory / "shared", box.directory / "host", box.directory / "source"
    for path in (shared, host, source, shared / "dir", shared / "real"):
        path.mkdir()
    (shared / "link").symlink_to("../../../../.." + str(host))
    (source / "marker").write_text("x")
    stop = box.directory / "stop"
    racer = subprocess.Popen([sys.executable, "-c", RACER, str(shared), str(stop)])
    try:
        for _ in range(150):
            mounts = (
                Mount("/v", "bind", str(shared), ("rbind",)),
                Mount("/v/dir/sub", "bind", str(source), ("rbind",)),
            )
            try:
                box.run("true", mounts=mounts)
            except BayplanError:
                continue
            assert not list(host.iterdir()), "nothing was made on the host"
    finally:
        stop.touch()
        racer.wait()
    assert not list(host.iterdir()), "nothing was made on the host"
    assert str(host) not in pathlib.Path("/proc/self/mountinfo").read_text(), "nothing was mounted there"


RACER = """
import os, sys, ctypes
shared, stop = sys.argv[1:]
libc = ctypes.CDLL(None)
while not os.path.exists(stop):
    for _ in range(500):
        libc.renameat2(-100, f"{shared}/dir".encode(), -100, f"{shared}/link".encode(), 2)
"""


def test_the_null_device_of_a_mask_is_verified(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2025-31133: whatever stands at /dev/null must be character device 1:3."""
    fake = box.directory / "null"
    fake.write_text("")
    original = os.open
    monkeypatch.setattr(
        rootfs.os, "open", lambda path, *a, **k: original(str(fake) if path == "/dev/null" else path, *a, **k)
    )
    with pytest.raises(OSError):
        rootfs._open_null()
    fake.unlink()
    os.mknod(fake, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with pytest.raises(OSError):
        rootfs._open_null()


def test_a_device_node_or_terminal_in_the_image_is_not_trusted(box: Box) -> None:
    """CVE-2025-52565: /dev is ours; an image's own nodes and links in it are covered."""
    dev = box.layer / "dev"
    dev.mkdir()
    (dev / "console").symlink_to("/etc/passwd")
    (dev / "null").write_text("a file")
    os.mknod(dev / "sda", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    listing = box.sh("ls -l /dev")
    assert "sda" not in listing and "1,   3" in listing, "only what the runtime made"
    box.rootfs = Plain(str(box.layer))
    no_dev = box.config("true")
    no_dev = no_dev._replace(mounts=tuple(m for m in no_dev.mounts if not m.destination.startswith("/dev")))
    with pytest.raises(BayplanError):
        box.run_config(no_dev)


def test_a_device_of_the_images_cannot_be_opened(box: Box) -> None:
    os.mknod(box.layer / "disk", stat.S_IFBLK | 0o666, os.makedev(254, 0))
    with Limited(Resources(devices=DEVICE_RULES)) as cgroup:
        ended = box.run("dd", "if=/disk", "of=/dev/null", "bs=1", "count=1", cgroup=cgroup)
    assert "not permitted" in ended.output, "the controller refuses it, whatever its mode"


def test_a_first_process_that_is_killed_early_does_not_hang_the_caller(box: Box) -> None:
    from bayplan.kernel import sandbox

    created = sandbox.create(box.config("true"), box.rootfs, cgroup=None, stdio=(0, 1, 2))
    os.kill(created.pid, 9)
    with pytest.raises(BayplanError, match="killed"):
        sandbox.start(created)
    stopped = sandbox.create(box.config("true"), box.rootfs, cgroup=None, stdio=(0, 1, 2))
    sandbox.abandon(stopped)


ATTACKS = [
    ("/etc/passwd", "inside"),
    ("../../../../etc/passwd", "inside"),
    ("absolute", "inside"),
    ("dotdot", "inside"),
    ("chain", "inside"),
    ("dir/../../../etc/passwd", "inside"),
    ("indir/passwd", "inside"),
    ("loop", None),
    ("magic/etc/passwd", None),
    ("nothere", None),
    ("dir/nothere", None),
    ("etc/passwd/x", None),
]


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize(("path", "expected"), ATTACKS)
def test_a_path_never_leaves_its_root(tmp_path: pathlib.Path, path: str, expected: str | None, fallback: bool) -> None:
    for name in ("etc", "dir", "proc"):
        (tmp_path / name).mkdir()
    (tmp_path / "etc" / "passwd").write_text("inside")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "dotdot").symlink_to("../../../../../etc/passwd")
    (tmp_path / "chain").symlink_to("dir/one")
    (tmp_path / "dir" / "one").symlink_to("/dir/../absolute")
    (tmp_path / "indir").symlink_to("/etc/")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "magic").symlink_to("/proc/self/root")
    root = paths.open_root(str(tmp_path))
    try:
        resolve = paths._walk if fallback else lambda r, p, f, m: paths.open_in_root(r, p, f, m)
        if expected is None:
            with pytest.raises(OSError):
                resolve(root, path, os.O_RDONLY, 0)
        else:
            fd = resolve(root, path, os.O_RDONLY, 0)
            assert os.read(fd, 100).decode() == expected, "the file inside the root"
            os.close(fd)
    finally:
        os.close(root)


@pytest.mark.parametrize("fallback", [False, True])
def test_magic_links_of_a_real_procfs_are_refused(fallback: bool) -> None:
    root = paths.open_root("/")
    resolve = paths._walk if fallback else lambda r, p, f, m: paths.open_in_root(r, p, f, m)
    for path in (
        "/proc/self/exe",
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "/proc/self/ns/net",
    ):
        with pytest.raises(OSError):
            os.close(resolve(root, path, linux.O_PATH, 0))
    os.close(resolve(root, "/proc/self/status", linux.O_PATH, 0))
    os.close(root)


OLD = (
    437,
    428,
    442,
    435,
    436,
    429,
    434,
    424,
    446,
)  # openat2, open_tree, mount_setattr, clone3, close_range, move_mount, pidfds


def test_everything_works_on_a_kernel_without_the_newer_calls() -> None:
    """The same tests again under a filter that answers ENOSYS, as Linux 4.18 would."""
    if os.environ.get("BAYPLAN_OLD_KERNEL"):
        pytest.skip("already inside")
    code = (
        "import os, sys, struct\n"
        f"sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "from bayplan.kernel import linux\n"
        f"numbers = {OLD!r}\n"
        "program = [struct.pack('=HBBI', 0x20, 0, 0, 0)]\n"
        "program += [struct.pack('=HBBI', 0x15, len(numbers) - i, 0, n) for i, n in enumerate(numbers)]\n"
        "program += [struct.pack('=HBBI', 6, 0, 0, 0x7fff0000), struct.pack('=HBBI', 6, 0, 0, 0x50026)]\n"
        "linux.seccomp_filter(b''.join(program))\n"
        "import pytest\n"
        "here = sys.argv[1]\n"
        "skip = 'propagation or born or newer_calls or magic_links or filter_without or idmapped'\n"
        "names = ('test_sandbox', 'test_sandbox_limits', 'test_sandbox_attacks', 'test_sandbox_mounts')\n"
        "files = [f'{here}/{name}.py' for name in names]\n"
        "sys.exit(pytest.main(['-q', '-x', '-p', 'no:cacheprovider', '-k', f'not ({skip})', *files]))\n"
    )
    here = str(pathlib.Path(__file__).parent)
    environment = {**os.environ, "BAYPLAN_OLD_KERNEL": "1", "OLD_KERNEL": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert ended.returncode == 0, f"openat2 and its like are not needed:\n{ended.stdout[-4000:]}{ended.stderr[-2000:]}"
