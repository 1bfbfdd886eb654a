"""Pulls and pushes over a bad line, killed at any moment, and with a full disk: right, or a clear error, and nothing lost.

FAULTS is how many are done (10; a soak does 1,000), SEED what chance begins with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import MAIN
from moving_lab import docker_archive, layer, load, move, noise
from registry_lab import push_image, registry, send
from test_push import check

from bayplan.engine import images, pull, push
from bayplan.engine.state import open_state
from bayplan.errors import BayplanError
from bayplan.model.digest import parse_digest
from bayplan.model.reference import parse_reference
from bayplan.registry.http import Settings
from bayplan.store import blobs
from bayplan.store.root import StateRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a state needs root")

COUNT = int(os.environ.get("FAULTS", "10"))
SEED = int(os.environ.get("SEED", "1"))
LAYERS = [layer("base", 1_500_000, 11), layer("middle", 300_000, 12), layer("top", 20_000, 13)]
KEPT = [layer("kept", 100_000, 14)]
SETTINGS = Settings({"HOME": "/nonexistent", "PATH": os.environ["PATH"]}, (), "/nonexistent", attempts=6, first_pause=0.005, seconds=0.5)


@contextlib.contextmanager
def wire(server: str, *, seed: int, share: float) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("wire.py")), server.rpartition(":")[2], str(seed), str(share)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as name:
        push_image(name, "team/app", "1", LAYERS)
        yield name


def in_fork(act: Callable[[], Any]) -> dict[str, Any]:
    """Do it in a process of its own, which has no threads; what it returns, or its error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            answer = {"done": act()}
        except BayplanError as error:
            answer = {"error": error.kind, "message": str(error)}
        except BaseException as error:
            answer = {"error": "bug", "message": repr(error)}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    found: dict[str, Any] = json.loads(data)
    return found


def check_state(root: str) -> None:
    """Every blob is what it is called, the image that was there before is whole, and no process works in it."""
    state = open_state(root)
    for digest in blobs.listed(state.root):
        assert hashlib.new(digest.algorithm, Path(state.root.blob(digest)).read_bytes()).hexdigest() == digest.hex, "a blob is wrong"
    row = images.find(state, "kept:1")
    assert images.exists_on_disk(state, row) and images.config(state, row.id)
    kept = Path(state.root.layer_tree(parse_digest(row.layers[0]))) / "data/kept"
    assert kept.read_bytes() == noise(100_000, 14), "what was there before is as it was"
    state.records.close()


def check_layers(root: str, diff_ids: list[str]) -> None:
    for digest, (name, size, seed) in zip(diff_ids, (("base", 1_500_000, 11), ("middle", 300_000, 12), ("top", 20_000, 13))):
        tree = Path(StateRoot(root).layer_tree(parse_digest(digest)))
        assert (tree / "data" / name).read_bytes() == noise(size, seed), "an image that came is the image that was sent"


def state_with(directory: Path, *, app: bool = False) -> str:
    root = str(directory / "state")
    in_fork_ok(lambda: load(root, docker_archive(directory / "kept.tar", KEPT, "kept:1")).id)
    if app:
        in_fork_ok(lambda: load(root, docker_archive(directory / "app.tar", LAYERS, "app:1")).id)
    return root


def in_fork_ok(act: Callable[[], Any]) -> Any:
    answer = in_fork(act)
    assert "error" not in answer, answer
    return answer["done"]


def test_pulls_over_a_bad_line_are_right_or_a_clear_error(server: str, tmp_path: Path) -> None:
    root, chance, done = state_with(tmp_path), random.Random(SEED), 0
    expected = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in LAYERS]
    with wire(server, seed=SEED, share=0.5) as line:

        def once() -> Any:
            found = pull.pull(parse_reference(f"{line}/team/app:1"), root=StateRoot(root), settings=SETTINGS)
            return [str(each) for each in found.layers]

        for _ in range(COUNT):
            answer = in_fork(once)
            assert answer.get("error") in (None, "unavailable", "invalid", "not_found", "denied"), answer
            if "done" in answer:
                done += 1
                assert answer["done"] == expected
                check_layers(root, expected)
            else:
                assert "127.0.0.1" in answer["message"] or "sha256" in answer["message"], "it says where, or what"
            check_state(root)
            if chance.random() < 0.6:
                in_fork_ok(lambda: forget(root))
    assert done > COUNT // 3, "most of them come through"


def forget(root: str) -> int:
    """What was pulled goes; it was never recorded."""
    from bayplan.engine import content

    return content.remove_unneeded(open_state(root), idle=0.0).things


def test_pushes_over_a_bad_line_are_right_or_a_clear_error(server: str, tmp_path: Path) -> None:
    root, done = state_with(tmp_path, app=True), 0
    with wire(server, seed=SEED + 1, share=0.5) as line:
        for number in range(COUNT):
            name = f"{line}/pushed/{number % 5}:{number}"

            def once(name: str = name) -> Any:
                state = open_state(root)
                images.tag(state, "app:1", name)
                found = push.push(state, name, settings=SETTINGS)
                return str(found[0].digest)

            answer = in_fork(once)
            assert answer.get("error") in (None, "unavailable", "invalid", "not_found", "denied"), answer
            if "done" in answer:
                done += 1
                assert check(server, f"pushed/{number % 5}", str(number)) == answer["done"], "what is named is what was pushed"
            elif str(number) in tags(server, f"pushed/{number % 5}"):
                check(server, f"pushed/{number % 5}", str(number))  # only the answer was lost
            check_state(root)
    assert done > COUNT // 3, "most of them come through"


def tags(server: str, repository: str) -> list[str]:
    code, _, data = send(server, "GET", f"/v2/{repository}/tags/list")
    return list(json.loads(data)["tags"] or ()) if code == 200 else []


def bayplan(root: str, *words: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(MAIN), "--root", root, *words]


def test_a_kill_at_any_moment_loses_nothing_that_was_there(server: str, tmp_path: Path) -> None:
    root, chance = state_with(tmp_path), random.Random(SEED)
    for number in range(max(5, COUNT // 4)):
        verb = ("pull", f"{server}/team/app:1") if number % 2 else ("copy", f"docker://{server}/team/app:1", f"oci:{tmp_path}/layout:1")
        with open(tmp_path / "said", "wb") as said:
            process = subprocess.Popen(bayplan(root, *verb), stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True)
            time.sleep(chance.uniform(0.05, 0.8))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        check_state(root)
        if (tmp_path / "layout/index.json").exists():
            check_layout(tmp_path / "layout")
        if chance.random() < 0.5:
            subprocess.run(bayplan(root, "rmi", f"{server}/team/app:1"), capture_output=True)
    done = subprocess.run(bayplan(root, "pull", "-q", f"{server}/team/app:1"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert os.listdir(StateRoot(root).staging) == [], "what the killed ones left is swept"
    check_layers(root, [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in LAYERS])
    again = move("copy", source=f"docker://{server}/team/app:1", target=f"oci:{tmp_path}/layout:1")
    assert "error" not in again and check_layout(tmp_path / "layout") == again["digest"]


def check_layout(directory: Path) -> str:
    """Whatever its index names is there and right; the digest of the one that it names."""
    def read(digest: str) -> bytes:
        data = (directory / "blobs/sha256" / digest.partition(":")[2]).read_bytes()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest, "a blob of the layout is wrong"
        return data

    top = json.loads((directory / "index.json").read_text())["manifests"][0]["digest"]
    manifest = json.loads(read(str(top)))
    for each in (manifest["config"], *manifest["layers"]):
        read(each["digest"])
    return str(top)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB, of this test alone."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "bayplan-test", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(server: str, small_disk: Path) -> None:
    push_image(server, "team/large", "1", [layer("large", 3_000_000, 21), layer("larger", 4_000_000, 22)])
    root = state_with(small_disk)
    (small_disk / "kept.tar").unlink()
    before = blobs.listed(StateRoot(root))
    done = subprocess.run(bayplan(root, "pull", f"{server}/team/large:1"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and any(word in done.stderr for word in ("full", "room", "space")), done.stderr
    check_state(root)
    assert os.listdir(StateRoot(root).staging) == [], "what was begun is gone"
    in_fork_ok(lambda: forget(root))
    assert blobs.listed(StateRoot(root)) == before
    copied = move("copy", source=f"docker://{server}/team/large:1", target=f"oci-archive:{small_disk}/file")
    assert "error" in copied and "full" in copied["message"], copied
    assert sorted(os.listdir(small_disk)) == ["state"], "no half of an archive is left"
    copied = move("copy", source=f"docker://{server}/team/large:1", target=f"oci:{small_disk}/layout:1")
    assert "full" in copied["message"] and not (small_disk / "layout/index.json").exists(), copied
    check_state(root)
