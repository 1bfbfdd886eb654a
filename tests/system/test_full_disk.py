"""A disk that gets full: what comes in stops before, nothing of it stays, and containers that run are unharmed."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE
from driver_lab import DriverLab, docker_archive, driver_lab, until
from layer_lab import archive, entry
from registry_lab import registry

from bayplan.errors import Full, Invalid
from bayplan.store import room

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers take root")
MB = 1_000_000


@pytest.fixture(scope="module", params=["ext4", "tmpfs"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriverLab]:
    with driver_lab(tmp_path_factory.mktemp(request.param), "overlay", kind=request.param, size=64 << 20) as found:
        yield found


@pytest.fixture(autouse=True)
def what_runs_goes_on(host: DriverLab) -> Iterator[None]:
    """Beside everything runs a container that writes all the time, and its writing never fails."""
    script = "n=0; while echo $n > /beat.new && mv /beat.new /beat; do n=$((n+1)); sleep 0.05 || sleep 1; done; echo failed; exit 1"
    host.ok("run", "-d", "--name", "busy", IMAGE, "sh", "-c", script)
    until("it writes", lambda: host.run("exec", "busy", "cat", "/beat").stdout)
    before = int(host.ok("exec", "busy", "cat", "/beat"))
    kept = stored(host)
    yield
    assert stored(host) == kept, "nothing of what was stopped is left"
    until("it has gone on", lambda: int(host.ok("exec", "busy", "cat", "/beat") or "0") > before)
    assert host.status("busy") == "running" and host.ok("logs", "busy") == ""
    host.ok("rm", "-f", "busy")


def stored(host: DriverLab) -> dict[str, list[str]]:
    return {name: sorted(os.listdir(host.seen / name)) for name in ("blobs/sha256", "layers", "chains", "l", "tmp")}


def random_layer(size: int, *, name: str = "big") -> bytes:
    return archive([entry(name, os.urandom(size))])


def sparse_looking_layer(size: int) -> bytes:
    """Compresses to next to nothing."""
    return archive([entry("zeros", bytes(size))])


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode not in (0, None), done
    for word in ("disk is full", "BAYPLAN_RESERVE", "bayplan system prune", *words):
        assert word in done.stderr, done
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done


def test_a_load_that_does_not_fit_is_refused_before_it_begins(host: DriverLab, tmp_path: Path) -> None:
    docker_archive(tmp_path / "big.tar", "big:1", [random_layer(15 * MB, name=str(number)) for number in range(3)])
    refused(host.run("load", "-i", str(tmp_path / "big.tar")), "90.", "are needed")


def test_a_layer_that_unpacks_to_more_than_there_is_stops_on_its_way(host: DriverLab, tmp_path: Path) -> None:
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(sparse_looking_layer(90 * MB), 1))
    done = host.run("import", str(tmp_path / "bomb.tar.gz"), "bomb:1")
    assert done.returncode == 1 and ("disk is full" in done.stderr or "room" in done.stderr), done
    assert "bomb" not in host.ok("images")


def test_an_archive_from_standard_input_stops_on_its_way(host: DriverLab) -> None:
    refused(host.run("load", stdin=tar_of(80 * MB)), "reading the archive")


def tar_of(size: int) -> bytes:
    return archive([entry("manifest.json", b"[]"), entry("x", bytes(size))])


def test_layers_that_came_whole_go_again_when_the_next_one_finds_no_room(host: DriverLab, tmp_path: Path) -> None:
    """Each is small as it is sent, so that only unpacking shows how much they are."""
    layers = [archive([entry(f"part{number}", os.urandom(MB) + bytes(14 * MB))]) for number in range(5)]
    docker_archive(tmp_path / "many.tar", "many:1", layers)
    with tarfile.open(tmp_path / "many.tar") as plain, tarfile.open(tmp_path / "packed.tar", "w") as packed:
        for member in plain:
            data = plain.extractfile(member).read()  # type: ignore[union-attr]
            data = gzip.compress(data, 1) if member.name[0].isdigit() else data
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    done = host.run("load", "-i", str(tmp_path / "packed.tar"))
    assert done.returncode == 1 and ("disk is full" in done.stderr or "room" in done.stderr), done


def test_a_pull_that_does_not_fit_is_refused_and_one_that_fits_is_not(host: DriverLab, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as server:
        for name, size in (("large", 35 * MB), ("small", MB)):
            docker_archive(tmp_path / f"{name}.tar", f"{server}/{name}:1", [random_layer(size)])
            source, target = f"docker-archive:{tmp_path}/{name}.tar", f"docker://{server}/{name}:1"
            subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", source, target], check=True, capture_output=True)
        refused(host.run("pull", "-q", f"{server}/large:1"), "pulling", "70.")
        refused(host.run("run", "--rm", f"{server}/large:1", "true"), "pulling")
        host.ok("pull", "-q", f"{server}/small:1")
        host.ok("rmi", f"{server}/small:1")


def test_the_reserve_is_what_the_environment_says(host: DriverLab, tmp_path: Path) -> None:
    docker_archive(tmp_path / "one.tar", "one:1", [random_layer(MB)])
    refused(host.run("load", "-i", str(tmp_path / "one.tar"), BAYPLAN_RESERVE="99%"))
    refused(host.run("load", "-i", str(tmp_path / "one.tar"), BAYPLAN_RESERVE="62M"))
    done = host.run("load", "-i", str(tmp_path / "one.tar"), BAYPLAN_RESERVE="much")
    assert done.returncode == 1 and "BAYPLAN_RESERVE" in done.stderr and "512M" in done.stderr
    host.ok("load", "-i", str(tmp_path / "one.tar"), BAYPLAN_RESERVE="0")
    host.ok("rmi", "one:1")


def test_blobs_that_were_only_kept_go_when_there_is_no_room(host: DriverLab, tmp_path: Path) -> None:
    keeping = {"BAYPLAN_KEEP_BLOBS": "1d"}
    docker_archive(tmp_path / "one.tar", "one:1", [random_layer(15 * MB)])
    host.ok("load", "-i", str(tmp_path / "one.tar"), **keeping)
    host.ok("rmi", "one:1", **keeping)
    docker_archive(tmp_path / "two.tar", "two:1", [random_layer(23 * MB)])
    refused(host.run("load", "-i", str(tmp_path / "two.tar"), **keeping))
    host.ok("load", "-i", str(tmp_path / "two.tar"), **keeping)  # the refusal has made the room
    host.ok("rmi", "two:1")


def test_a_file_system_without_inodes_is_said(host: DriverLab, tmp_path: Path) -> None:
    """More files than the disk has inodes: it stops while there are some left."""
    path = tmp_path / "files.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(60_000):
            info = tarfile.TarInfo(f"f{number}")
            tar.addfile(info)
    inodes = os.statvfs(host.seen).f_files
    if inodes > 60_000:
        pytest.skip(f"this file system has {inodes} inodes")
    done = host.run("import", str(path), "files:1")
    assert done.returncode == 1 and "inodes" in done.stderr and "bayplan system prune" in done.stderr, done


def test_the_room_that_is_left_is_beside_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs(tmp_path)
    monkeypatch.setenv("BAYPLAN_RESERVE", "0")
    everything = room.left(str(tmp_path))
    assert abs(everything.bytes - found.f_bavail * found.f_frsize) < 1 << 30 and everything.reserve == 0
    monkeypatch.setenv("BAYPLAN_RESERVE", "10%")
    assert room.left(str(tmp_path)).reserve == found.f_blocks * found.f_frsize // 10
    monkeypatch.delenv("BAYPLAN_RESERVE")
    assert room.left(str(tmp_path)).reserve == min(found.f_blocks * found.f_frsize // 20, 1 << 30)
    for text in ("100%", "-1", "1.5G", "G", "%", "5 %"):
        monkeypatch.setenv("BAYPLAN_RESERVE", text)
        with pytest.raises(Invalid, match="BAYPLAN_RESERVE"):
            room.left(str(tmp_path))
    monkeypatch.setenv("BAYPLAN_RESERVE", "99%")
    with pytest.raises(Full, match="testing: the disk is full"):
        room.check(str(tmp_path), "testing", need=1 << 50)


def test_a_build_s_step_that_fills_the_disk_is_ended(host: DriverLab, tmp_path: Path) -> None:
    script = "head -c 1000000 /dev/zero >> /filled; sleep 0.05"
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo begins && while {script}; do :; done\n")
    done = host.run("build", "-t", "filled:1", str(tmp_path))
    assert done.returncode == 1 and "disk is full" in done.stderr, done
    assert "filled" not in host.ok("images")
