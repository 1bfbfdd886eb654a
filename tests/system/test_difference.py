"""What a container has changed: the same, whether it is found in an overlay's upper directory or by comparing trees."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_pack import CAPABILITY, OPAQUE, snapshot, unpacked

from bayplan.store.difference import Difference, hidden, of_tree, of_upper
from bayplan.store.pack import pack_merged, write_archive

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="whiteouts need root")

NAMES = st.sampled_from([b"a", b"b", b"c", b"a.b", b"\xff", b"a\n"])
KINDS = st.sampled_from("directory directory file file symlink fifo whiteout opaque".split())
THINGS = st.tuples(KINDS, NAMES, st.binary(max_size=20), st.sampled_from([0o644, 0o755, 0o600]), st.integers(0, 20), st.booleans())
TREES = st.lists(THINGS, max_size=14)
PICK = st.lists(st.integers(0, 50), min_size=14, max_size=14)


def shown(differences: Iterator[Difference]) -> list[str]:
    return [f"{each.kind} /{os.fsdecode(each.found.path)}" for each in differences]


def make(root: Path, things: list[Any], pick: list[int], *, marks: bool) -> Path:
    root.mkdir()
    root.chmod(0o755)
    directories, times = [os.fsencode(root)], dict[bytes, int]()
    for number, (kind, name, content, mode, second, marked) in enumerate(things):
        path = directories[pick[number] % len(directories)] + b"/" + name
        if os.path.lexists(path) or (kind == "whiteout" and not marks):
            continue
        if kind == "whiteout":
            os.mknod(path, stat.S_IFCHR, 0)
            continue
        if kind in ("directory", "opaque"):
            os.mkdir(path)
            directories.append(path)
        elif kind == "symlink":
            os.symlink(b"to" + content.replace(b"\0", b""), path)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            Path(os.fsdecode(path)).write_bytes(content)
            if marked:
                os.setxattr(path, "security.capability", CAPABILITY)
        if kind == "opaque" and marks:
            os.setxattr(path, OPAQUE, b"y")
        if kind != "symlink":
            os.chmod(path, mode)
        times[path] = second
    for path, second in sorted(times.items(), reverse=True):
        os.utime(path, (second, second), follow_symlinks=False)
    return root


def merged(*trees: Path) -> bytes:
    buffer = io.BytesIO()
    pack_merged([str(each) for each in trees], buffer.write)
    return buffer.getvalue()


def as_layer(differences: Iterator[Difference], target: Path) -> Path:
    buffer = io.BytesIO()
    write_archive((each.found for each in differences), buffer.write)
    unpacked(buffer.getvalue(), target)
    return target


def without_directory_times(tree: Path) -> dict[bytes, Any]:
    found = snapshot(tree)
    return {path: value[:3] + value[4:] if path and value[0].startswith("0o4") else value for path, value in found.items()}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(TREES, PICK, TREES, PICK, TREES, PICK)
def test_a_layer_of_the_differences_shows_the_same_files_as_the_upper_directory(
    low: list[Any], low_pick: list[int], middle: list[Any], middle_pick: list[int], top: list[Any], top_pick: list[int]
) -> None:
    home = Path(tempfile.mkdtemp(prefix="pack-", dir="/var/tmp"))
    try:
        base = [make(home / "middle", middle, middle_pick, marks=True), make(home / "low", low, low_pick, marks=False)]
        upper = make(home / "upper", top, top_pick, marks=True)
        unpacked(merged(upper, *base), home / "now")
        below = [str(each) for each in base]
        first = as_layer(of_upper(str(upper), below), home / "first")
        second = as_layer(of_tree(str(home / "now"), below), home / "second")
        want = without_directory_times(home / "now")
        for number, layer in enumerate((first, second)):
            unpacked(merged(layer, *base), home / f"again{number}")
            assert without_directory_times(home / f"again{number}") == want
        assert set(shown(of_tree(str(home / "now"), below))) <= _expanded(upper, below, want)
    finally:
        shutil.rmtree(home)


def _expanded(upper: Path, below: list[str], want: dict[bytes, Any]) -> set[str]:
    """What the upper directory changes, with what its opaque directories hide, and what is below them."""
    found = set(shown(of_upper(str(upper), below)))
    for each in of_upper(str(upper), below):
        if each.found.opaque:
            found |= {f"D /{os.fsdecode(path)}" for path in hidden(below, each.found.path) if path not in want}
            found |= {line.replace("A ", "C ") for line in found}
    return found


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    upper, base = tmp_path / "upper", tmp_path / "base"
    for each in (upper, base):
        (each / "etc").mkdir(parents=True)
        each.chmod(0o755)
    (base / "etc/passwd").write_text("root")
    return upper, base


By = Callable[..., Iterator[Difference]]


def test_changes_are_shown_as_docker_shows_them(trees: tuple[Path, Path]) -> None:
    upper, base = trees
    (base / "gone").mkdir()
    (base / "gone/x").write_text("x")
    (base / "bin").mkdir()
    os.mknod(upper / "gone", stat.S_IFCHR, 0)
    os.mknod(upper / "never", stat.S_IFCHR, 0)
    (upper / "etc/new").write_text("x")
    (upper / "etc/passwd").write_text("changed")
    (upper / "bin").mkdir(mode=0o700)
    assert shown(of_upper(str(upper), [str(base)])) == ["C /bin", "C /etc", "A /etc/new", "C /etc/passwd", "D /gone"]


def test_what_mounts_needed_is_not_the_containers_doing(trees: tuple[Path, Path], tmp_path: Path) -> None:
    upper, base = trees
    stubs = {b"etc", b"etc/hosts", b"data", b"data/deep", b"proc"}
    (upper / "etc/hosts").write_text("")
    (upper / "data/deep").mkdir(parents=True)
    (upper / "proc").mkdir()
    assert shown(of_upper(str(upper), [str(base)], stubs=stubs)) == []
    shutil.copytree(base, tmp_path / "now", copy_function=shutil.copy2)
    (tmp_path / "now/etc/hosts").write_text("")
    (tmp_path / "now/proc").mkdir()
    assert shown(of_tree(str(tmp_path / "now"), [str(base)], stubs=stubs)) == []
    (upper / "data/deep/own").write_text("written where no volume lay over it")
    (upper / "etc/hosts").write_text("own")
    lines = ["A /data", "A /data/deep", "A /data/deep/own", "C /etc", "A /etc/hosts"]
    assert shown(of_upper(str(upper), [str(base)], stubs=stubs)) == lines


def test_an_attribute_alone_is_a_change(trees: tuple[Path, Path], tmp_path: Path) -> None:
    _, base = trees
    shutil.copytree(base, tmp_path / "now", copy_function=shutil.copy2)
    os.setxattr(tmp_path / "now/etc/passwd", "user.x", b"1")
    os.utime(tmp_path / "now/etc", (1, 1))
    assert shown(of_tree(str(tmp_path / "now"), [str(base)])) == ["C /etc", "C /etc/passwd"]


def test_a_device_like_a_whiteout_in_a_plain_tree_hides_nothing_in_its_layer(trees: tuple[Path, Path], tmp_path: Path) -> None:
    _, base = trees
    shutil.copytree(base, tmp_path / "now", copy_function=shutil.copy2)
    os.mknod(tmp_path / "now/null", stat.S_IFCHR, 0)
    os.setxattr(tmp_path / "now/etc", OPAQUE, b"y")
    buffer = io.BytesIO()
    packed = write_archive((each.found for each in of_tree(str(tmp_path / "now"), [str(base)])), buffer.write)
    assert packed.entries == 0 and [each.path for each in packed.left_out] == ["/null"]
