"""The storage drivers, all by one suite: whatever makes a container's root file system, the container sees the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from cli_lab import IMAGE
from driver_lab import CAPABILITY, DAY, DRIVERS, EXPECTED, LAYERS, DriverLab, driver_lab, look

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers take root")


@pytest.fixture(scope="module", params=DRIVERS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverLab]:
    with driver_lab(tmp_path_factory.mktemp(request.param), request.param) as found:
        found.load("layers:1", *LAYERS)
        yield found


@pytest.fixture(autouse=True)
def no_container_stays(host: DriverLab) -> Iterator[None]:
    yield
    left = host.ids()
    if left:
        host.ok("rm", "-f", *left)


def test_the_driver_is_recorded_and_shown(host: DriverLab) -> None:
    host.ok("run", "--rm", IMAGE, "true")
    assert host.ok("info", "--format", "{{.Driver}}").strip() == host.name
    assert (host.seen / "driver").read_text().strip() == host.name


def test_a_container_sees_the_image_as_its_layers_describe_it(host: DriverLab) -> None:
    host.ok("run", "-d", "--name", "one", "layers:1")
    top = host.inside("one") / "t"
    assert look(top) == EXPECTED
    assert (top / "linked").lstat().st_ino == (top / "sticky/third").lstat().st_ino, "one file with two names"
    assert os.getxattr(top / "marked", "user.note") == b"kept"
    assert int((top / "setuid").lstat().st_mtime) == int((top / "emptied").lstat().st_mtime) == DAY
    assert os.getxattr(top / "marked", "security.capability") == CAPABILITY
    assert (host.inside("one") / ".").stat().st_mode & 0o7777 == 0o755


def test_containers_do_not_see_each_other_s_writes_nor_does_the_image_change(host: DriverLab) -> None:
    for name in ("one", "two"):
        host.ok("run", "-d", "--name", name, "layers:1")
    script = "echo one > /t/owned; rm -r /t/tree /t/fifo; mkdir /t/own; ln /t/linked /t/fourth; echo more >> /t/linked; chmod 700 /t/sticky"
    host.ok("exec", "one", "sh", "-c", script)
    assert look(host.inside("two") / "t") == EXPECTED
    assert host.ok("exec", "one", "cat", "/t/owned", "/t/fourth") == "one\ntwo namesmore\n"
    assert host.ok("run", "--rm", "layers:1", "cat", "/t/owned") == "o"


def test_what_a_container_has_written_is_there_when_it_starts_again(host: DriverLab) -> None:
    host.ok("run", "-d", "--name", "one", "layers:1")
    host.ok("exec", "one", "sh", "-c", "echo kept > /t/new; rm /t/setuid")
    host.ok("restart", "-t", "0", "one")
    assert host.ok("exec", "one", "cat", "/t/new") == "kept\n"
    assert not (host.inside("one") / "t/setuid").exists()


def test_several_containers_of_an_image_start_at_once(host: DriverLab) -> None:
    host.load("fresh:1", *LAYERS[:2])
    running = [subprocess.Popen(host.command("run", "--rm", "fresh:1", "cat", "/t/came-back", "/t/emptied/new"), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE) for _ in range(4)]  # fmt: skip
    said = [each.communicate(timeout=60) for each in running]
    assert [out for out, _ in said] == [b"n"] * 4, said
    host.ok("rmi", "fresh:1")


def test_a_container_with_user_ids_of_its_own_has_its_root_file_system(host: DriverLab) -> None:
    script = "id -u; ls -ln /t/owned; touch /t/mine && ls -ln /t/mine"
    shown = host.ok("run", "--rm", "--userns", "private", "layers:1", "sh", "-c", script).splitlines()
    assert shown[0] == "0" and shown[1].split()[2:4] == ["12345", "54321"] and shown[2].split()[2:4] == ["0", "0"]


def test_removal_leaves_nothing(host: DriverLab) -> None:
    before = sorted(os.listdir(host.seen / "layers")), host.subvolumes()
    host.load("going:1", *LAYERS[1:])
    host.ok("run", "--name", "one", "going:1", "sh", "-c", "mkdir -p /a/b/c && echo x > /a/b/c/d")
    host.ok("rm", "one")
    assert os.listdir(host.seen / "containers") == []
    host.ok("rmi", "going:1")
    assert (sorted(os.listdir(host.seen / "layers")), host.subvolumes()) == before
    assert os.listdir(host.seen / "tmp") == []


def test_what_a_container_takes_is_counted(host: DriverLab) -> None:
    host.ok("run", "--name", "one", "layers:1", "sh", "-c", "head -c 5000000 /dev/urandom > /big")
    sizes = json.loads(host.ok("system", "df", "-v", "--format", "json"))["Containers"]
    taken = float(sizes[0]["Size"].removesuffix("MB"))
    assert 5 <= taken < (5.5 if host.name != "vfs" else 12), sizes[0]["Size"]
    assert "Total reclaimed space: " in host.ok("container", "prune", "-f")


def test_killed_at_any_moment_a_start_can_be_repeated_and_the_rest_is_swept(host: DriverLab) -> None:
    host.load("killed:1", *LAYERS)
    rounds = random.Random(7)
    for number in range(12):
        starting = subprocess.Popen(host.command("run", "-d", "--name", f"k{number}", "killed:1"), stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        time.sleep(rounds.uniform(0.02, 0.35))
        os.killpg(starting.pid, signal.SIGKILL)
        starting.wait()
    for name in host.ok("ps", "-a", "--format", "{{.Names}}").split():
        if host.status(name) in ("created", "exited"):
            host.ok("start", name)
            assert look(host.inside(name) / "t") == EXPECTED
        host.ok("rm", "-f", name)
    host.ok("rmi", "killed:1")
    host.load("next:1")  # whatever comes in sweeps the staging directory
    assert os.listdir(host.seen / "tmp") == []
    host.ok("rmi", "next:1")


def test_another_driver_is_refused_for_a_state_that_has_one(host: DriverLab) -> None:
    host.ok("run", "--rm", IMAGE, "true")
    other = "vfs" if host.name != "vfs" else "overlay"
    for words, environment in ((["--storage-driver", other], {}), ([], {"BAYPLAN_STORAGE_DRIVER": other})):
        command = host.command(*words, "run", "--rm", IMAGE, "true")
        at = command.index("--storage-driver")
        done = subprocess.run([*command[:at], *command[at + 2 :]], capture_output=True, text=True, env={**os.environ, **environment})
        assert done.returncode == 125 and host.name in done.stderr and "--root" in done.stderr, done


def test_subvolumes_that_a_container_makes_go_with_it(host: DriverLab) -> None:
    if host.name != "btrfs":
        pytest.skip("only btrfs has them")
    host.ok("run", "-d", "--name", "one", "-v", "/anonymous", "layers:1")
    host.python("""if 1:
        import os, sys
        from bayplan.store import subvolumes
        for top in sys.argv[2:]:
            subvolumes.create(top + "/s")
            os.makedirs(top + "/s/a/b")
            subvolumes.create(top + "/s/a/b/deep")
            os.makedirs(top + "/s/a/b/deep/x/y")
            open(top + "/s/a/b/deep/x/y/file", "w").close()
            subvolumes.snapshot(top + "/s/a/b/deep", top + "/s/a/copy")
            subvolumes.create(top + "/s/1")
        """, *(str(host.root / str(path.relative_to(host.seen))) for path in (
            *host.seen.glob("containers/*/rootfs"), *host.seen.glob("volumes/*/_data"))))  # fmt: skip
    host.ok("rm", "-f", "-v", "one")
    assert os.listdir(host.seen / "containers") == os.listdir(host.seen / "volumes") == os.listdir(host.seen / "tmp") == []


def test_a_driver_that_does_not_work_here_is_said(host: DriverLab, tmp_path: object) -> None:
    if host.name == "btrfs":
        pytest.skip("this is where it works")
    for driver, words in (("btrfs", "vfs works anywhere"), ("zfs", "overlay, vfs, btrfs")):
        bayplan = [*host.command()[:8], "--root", f"{tmp_path}/s", "--storage-driver", driver]
        subprocess.run([*bayplan, "import", str(host.directory / "root.tar"), IMAGE], check=True, capture_output=True)
        done = subprocess.run([*bayplan, "run", "--rm", "--network", "none", IMAGE, "true"], capture_output=True, text=True)
        assert done.returncode == 125 and words in done.stderr and done.stderr.count("\n") == 1, done


def test_what_a_container_has_changed_is_shown_and_kept(host: DriverLab) -> None:
    script = "echo new > /t/new; rm /t/setuid; rm -r /t/tree; chmod 600 /t/owned; echo x > /t/marked"
    host.ok("run", "--name", "one", "layers:1", "sh", "-c", script)
    assert host.ok("diff", "one").splitlines() == ["C /t", "C /t/marked", "A /t/new", "C /t/owned", "D /t/setuid", "D /t/tree"]
    host.ok("commit", "one", "kept:1")
    script = "cat /t/new /t/marked; test ! -e /t/setuid && test ! -e /t/tree && ls -ln /t/owned"
    shown = host.ok("run", "--rm", "kept:1", "sh", "-c", script).splitlines()
    assert shown[:2] == ["new", "x"] and shown[2].split()[0] == "-rw-------" and shown[2].split()[2:4] == ["12345", "54321"]
    host.ok("rm", "one")
    host.ok("rmi", "kept:1")
