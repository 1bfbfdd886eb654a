"""Links, swapped names and fake file systems in the image and in volumes, where the runtime makes, mounts and writes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, RUNTIME, Host, weakened
from cli_lab import Typist
from engine_lab import busybox_tree

STARTS = int(os.environ.get("ATTACK_STARTS", "40"))  # 1,000 for the full number
BY_NAME = (  # what is made and what is mounted on is found by its path, as others have done it
    "kernel/paths.py",
    "    try:\n        return open_in_root(root, path)\n    except FileNotFoundError:\n        pass\n",
    "    name = f'/proc/self/fd/{root}/{path}'\n"
    "    if not os.path.exists(name):\n        os.makedirs(name) if directory else open(name, 'x').close()\n"
    "    return os.open(name, linux.O_PATH | os.O_CLOEXEC)\n",
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host's with one file, that nobody else touches."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "file").write_text("the host's\n")
    return made


def untouched(outside: Path) -> bool:
    mounted = str(outside) in Path("/proc/self/mountinfo").read_text()
    return os.listdir(outside) == ["file"] and (outside / "file").read_text() == "the host's\n" and not mounted


def up(outside: Path) -> str:
    """The same directory by a relative way that leaves any root."""
    return "../" * 40 + str(outside)[1:]


@pytest.mark.parametrize(
    "name", ["dev", "proc", "sys", "etc", "dev/pts", "dev/shm", "sys/fs", "proc/sys", "etc/hosts", "etc/resolv.conf", "dev/null"]
)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_a_link_in_place_of_a_directory_of_ours_leads_nowhere(host: Host, tmp_path: Path, outside: Path, name: str, relative: bool) -> None:
    """CVE-2026-41579, CVE-2026-47766, CVE-2019-19921: device nodes, mounts and files were made where an image's link led."""
    tree = tmp_path / "tree"
    busybox_tree(tree)
    link = tree / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        link.rename(tree / "was")
    target = outside / "file" if name in ("etc/hosts", "etc/resolv.conf", "dev/null") else outside
    link.symlink_to(up(target) if relative else target)
    host.image("linked:1", tree)
    done = host.ran("run", "--rm", *NET, "linked:1", "sh", "-c", "echo over >/etc/hosts; echo ran")
    assert untouched(outside), f"{name}: nothing was made, mounted or written on the host: {done}"
    assert done.returncode == 125 or b"ran" in done.stdout, f"it runs, or says why not: {done}"


def test_resolved_in_the_hosts_root_such_a_link_is_followed(host: Host, tmp_path: Path, outside: Path) -> None:
    tree = tmp_path / "tree"
    busybox_tree(tree)
    (tree / "data").symlink_to(up(outside))
    host.image("linked:1", tree)
    weak = weakened(tmp_path / "weak", BY_NAME)
    for runtime, expected in ((RUNTIME, True), (weak, False)):
        host.ran("run", "--rm", *NET, "-v", "some:/data/made", "linked:1", "true", runtime=runtime)
        assert untouched(outside) is expected, "so the attack bites"


@pytest.mark.parametrize("chain", [("link",), ("a", "b", "link"), ("a", "..", "a", "link"), ("link", "..", "link"), ("a", "b", "absolute")])
def test_a_working_directory_through_a_chain_of_links_is_made_inside(
    host: Host, tmp_path: Path, outside: Path, chain: tuple[str, ...]
) -> None:
    """CVE-2026-55686, CVE-2024-9341."""
    tree = tmp_path / "tree"
    busybox_tree(tree)
    for directory in (tree, tree / "a", tree / "a/b"):
        directory.mkdir(exist_ok=True)
        (directory / "link").symlink_to(up(outside))
        (directory / "absolute").symlink_to(outside)
    host.image("chained:1", tree)
    path = "/" + "/".join((*chain, "made", "there"))
    said = host.ran("run", "--rm", *NET, "-w", path, "chained:1", "busybox", "pwd")
    assert untouched(outside), f"nothing was made on the host: {said}"
    for options in (("--tmpfs", f"{path}/t"), ("-v", f"some:{path}/v"), ("--device", f"/dev/null:{path}/null")):
        done = host.ran("run", "--rm", *NET, *options, "chained:1", "true")
        assert untouched(outside), f"{options}: {done}"


@contextmanager
def swapping(host: Host, volume: str, links: tuple[str, str]) -> Iterator[None]:
    """A container that has the volume too swaps two names in it all the time."""
    host.up("racer", "swap", *(f"/v/{each}" for each in links), options=(*NET, "-v", f"{volume}:/v"))
    yield
    host.command("rm", "-f", "racer")


def test_a_renamer_in_a_shared_volume_never_gets_a_mount_on_the_host(host: Host, outside: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310, CVE-2019-16884: a target that is a directory when it is looked at and a link when it is used."""
    plant = f"mkdir -p /v/dir/sub /v/dir/deep/er; ln -s {up(outside)} /v/link; touch /v/dir/f"
    host.command("run", "--rm", *NET, "-v", "shared:/v", IMAGE, "sh", "-c", plant)
    targets = (
        "-v",
        "other:/v/dir/sub",
        "--tmpfs",
        "/v/dir/deep/er",
        "-v",
        "third:/v/dir/made/here",
        "-w",
        "/v/dir/wd",
        "--device",
        "/dev/null:/v/dir/null",
    )
    ways = {True: 0, False: 0}
    with swapping(host, "shared", ("dir", "link")):
        for _ in range(STARTS):
            done = host.ran("run", "--rm", *NET, "-v", "shared:/v", *targets, IMAGE, "cat", "/proc/self/mountinfo")
            ways[done.returncode == 0] += 1
            assert untouched(outside), f"nothing was made or mounted on the host: {done}"
    assert sum(ways.values()) == STARTS, f"whichever way each went, it ended: {ways}"


def test_resolved_by_name_the_renamer_wins(host: Host, tmp_path: Path, outside: Path) -> None:
    host.command("run", "--rm", *NET, "-v", "shared:/v", IMAGE, "sh", "-c", f"mkdir -p /v/dir; ln -s {up(outside)} /v/link")
    weak = weakened(tmp_path / "weak", BY_NAME)
    with swapping(host, "shared", ("dir", "link")):
        for _ in range(40):
            host.ran("run", "--rm", *NET, "-v", "shared:/v", "--tmpfs", "/v/dir/made", IMAGE, "true", runtime=weak)
            if not untouched(outside):
                return
    raise AssertionError("the attack bites: a directory is made on the host")


@pytest.mark.parametrize("name", ["null", "console", "ptmx", "pts", "tty", "stdout", "fd", "shm", "mqueue"])
def test_a_volume_over_dev_that_is_full_of_links_reaches_nothing(host: Host, outside: Path, name: str) -> None:
    """CVE-2025-31133, CVE-2025-52565: a mask's source or a terminal's target replaced by a link, while a terminal is asked for."""
    data = Path(host.state().root.volume_data("devices"))
    host.command("volume", "create", "devices")
    (data / name).symlink_to(up(outside / "file"))
    for options in ((), ("-t",)):
        done = host.ran(
            "run", "--rm", *NET, *options, "-v", "devices:/dev", IMAGE, "sh", "-c", "echo x >/dev/console; chmod 777 /dev/null; true"
        )
        assert untouched(outside), f"{options}: {done}"
        assert Path("/dev/null").stat().st_mode & 0o777 == 0o666, "the host's null device is as it was"


def test_a_terminal_is_the_containers_own_whatever_the_image_calls_console(host: Host, tmp_path: Path, outside: Path) -> None:
    tree = tmp_path / "tree"
    busybox_tree(tree)
    (tree / "dev").mkdir()
    for name in ("console", "ptmx", "pts", "tty"):
        (tree / "dev" / name).symlink_to(outside / "file")
    host.image("console:1", tree)
    typist = Typist(
        host.argv("run", "--rm", *NET, "-it", "console:1", "sh", "-c", "echo x >/dev/console; ls -l /dev/console; cat /proc/self/mounts")
    )
    assert typist.end() == 0
    assert b" /dev/console devpts " in typist.seen, f"bound from its master: {typist.seen!r}"
    assert untouched(outside)


def test_a_mask_is_the_real_null_device(host: Host, tmp_path: Path, outside: Path) -> None:
    """CVE-2025-31133, in a mount namespace where /dev/null is something else: the start is refused, and nothing is shown."""
    for number, make in enumerate(
        (f"cp {outside}/file {tmp_path}/null", f"ln -s {outside}/file {tmp_path}/null", f"mknod {tmp_path}/null c 1 5")
    ):
        words = " ".join(host.argv("run", "--rm", *NET, IMAGE, "cat", "/proc/interrupts"))
        script = f"rm -f {tmp_path}/null; {make} && mount --bind {tmp_path} {outside.parent} && mount -t tmpfs x /dev && cp -P {tmp_path}/null /dev/null && {words}"  # noqa: E501
        if number == 2:
            script = script.replace(f"cp -P {tmp_path}/null /dev/null", "mknod /dev/null c 1 5")
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{script}; true"]
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        assert b"CPU" not in done.stdout and b"the host's" not in done.stdout, f"never shown: {done}"
        assert b"null" in done.stderr, f"and refused: {done}"


def test_kernel_settings_are_written_to_the_real_procfs_only(host: Host, tmp_path: Path) -> None:
    """CVE-2025-52881, CVE-2023-27561, CVE-2023-28642: an image's volume at /proc, full of files that only look like it."""
    from test_attacks_engine import load

    load(host, "faked:1", {"Volumes": {"/proc": {}}})
    before = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    setting = ("--sysctl", "net.ipv4.ip_default_ttl=77")
    fake = "mkdir -p /proc/sys/net/ipv4 /proc/self/attr; echo fake >/proc/sys/net/ipv4/ip_default_ttl; busybox find /proc -type f | while read f; do echo $f $(cat $f); done"  # noqa: E501
    done = host.ran("run", "--rm", *setting, "faked:1", "sh", "-c", fake)
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before, "the host's setting is as it was"
    if done.returncode:
        assert b"/proc" in done.stderr and not done.stdout, f"what takes the place of /proc is refused: {done}"
        return
    assert done.stdout == b"/proc/sys/net/ipv4/ip_default_ttl fake\n"
    host.up("faked", image="faked:1", options=("-v", "proc:/proc", *setting))
    host.inside("faked", "sh", "-c", fake)
    host.command("restart", "-t", "0", "faked")
    assert host.inside("faked", "cat", "/proc/sys/net/ipv4/ip_default_ttl") == "fake\n", "what lies in the volume is not written to"
    with open(f"/proc/{host.first('faked')}/ns/net") as space:
        ttl = subprocess.run(
            ["nsenter", f"--net=/proc/self/fd/{space.fileno()}", "cat", "/proc/sys/net/ipv4/ip_default_ttl"],
            pass_fds=[space.fileno()],
            capture_output=True,
        )
    assert ttl.stdout == b"77\n", "and the real one is"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before, "the container's own, not the host's"


@pytest.mark.parametrize(
    "path", ["/proc", "/sys", "/dev", "/sys/fs/cgroup", "/proc/sys", "/dev/pts", "/proc/self", "/proc/1/root", "/sys/kernel"]
)
def test_an_images_volume_over_a_file_system_of_ours_uncovers_nothing(host: Host, path: str) -> None:
    """An image that takes the mount's place must not thereby take its masks or its being read-only away."""
    from test_attacks_engine import load

    load(host, "over:1", {"Volumes": {path: {}}})
    script = """
        (echo x >/proc/sysrq-trigger) 2>/dev/null && [ "$(busybox stat -f -c %T /proc)" = proc ] && echo triggered
        (echo 1 >/proc/sys/vm/panic_on_oom) 2>/dev/null && [ "$(busybox stat -f -c %T /proc/sys)" = proc ] && echo written
        busybox grep -c CPU /proc/interrupts 2>/dev/null | grep -v '^0$'
        mkdir /sys/fs/cgroup/x 2>/dev/null && grep -q 'cgroup /sys' /proc/mounts && echo made
        echo tried"""
    done = host.ran("run", "--rm", *NET, "over:1", "sh", "-c", script)
    assert done.stdout in (b"tried\n", b"") and (done.stdout or done.returncode), f"{path}: {done}"
