"""A container's upper directory becomes a layer, and is then what would be unpacked of its archive."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_lab import new_root, overlay, take
from test_pack import OPAQUE, SECOND, THINGS, make_tree, packed, snapshot

from bayplan.store import layers, staging
from bayplan.store.adoption import adopt, adopt_archive
from bayplan.store.pack import pack
from bayplan.store.root import StateRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="devices and whiteouts need root")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StateRoot]:
    found = new_root(tmp_path)
    yield found
    assert os.listdir(found.staging) == [], "nothing stays in staging"


@pytest.fixture
def upper(root: StateRoot) -> Path:
    found = Path(root.containers) / "upper"
    found.mkdir()
    found.chmod(0o755)
    return found


def hostile(upper: Path) -> None:
    """What a container may leave: things that a layer cannot have, and what overlay notes for itself."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(upper / "socket"))
    (upper / "dir").mkdir()
    (upper / "dir/.wh.below").mkdir()
    (upper / "dir/.wh.below/file").write_text("")
    (upper / ".wh.etc").write_text("")
    (upper / "late").write_text("x")
    (upper / "\udcff\n").symlink_to("/etc/shadow")
    (upper / "opaque").mkdir()
    os.mknod(upper / "gone", stat.S_IFCHR, 0)
    os.setxattr(upper / "opaque", OPAQUE, b"y")
    os.setxattr(upper / "dir", OPAQUE, b"x")
    (upper / "dir/hidden").write_bytes(b"")
    os.setxattr(upper / "dir/hidden", "trusted.overlay.whiteout", b"")
    for name in ("trusted.overlay.origin", "trusted.overlay.redirect", "trusted.overlay.metacopy", "user.overlay.opaque", "user.kept"):
        os.setxattr(upper / "late", name, b"/etc")
    os.setxattr(upper, "trusted.overlay.impure", b"y")
    os.utime(upper / "late", (3_000_000_000, 3_000_000_000))
    for name in ("dir", "opaque"):
        os.utime(upper / name, (2_000_000_000, 2_000_000_000))


@pytest.mark.parametrize("epoch", [None, 1_500_000_000])
def test_an_adopted_tree_is_what_its_archive_would_unpack_to(root: StateRoot, upper: Path, tmp_path: Path, epoch: int | None) -> None:
    hostile(upper)
    archive, before = packed(upper, epoch=epoch)
    adopted = adopt(root, str(upper), epoch=epoch)
    assert not upper.exists(), "it was moved"
    assert sorted(each.path for each in adopted.left_out) == sorted(each.path for each in before.left_out)
    assert {each.path for each in adopted.left_out} == {"/socket", "/dir/.wh.below", "/.wh.etc"}
    other = new_root(tmp_path / "other")
    assert take(other, archive) == adopted.diff_id, "the diff_id is the digest of what pack writes"
    assert snapshot(root.layer_tree(adopted.diff_id)) == snapshot(other.layer_tree(adopted.diff_id))
    assert layers.size(root, adopted.diff_id) == layers.size(other, adopted.diff_id) == adopted.size == len(archive)
    assert packed(root.layer_tree(adopted.diff_id))[0] == archive, "and it is packed again to the same bytes"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(THINGS, max_size=15), st.lists(st.integers(0, 100), min_size=25, max_size=25), st.sampled_from([None, 10**9]))
def test_any_tree_is_adopted_as_it_is_unpacked(things: list[Any], pick: list[int], epoch: int | None) -> None:
    base = Path(tempfile.mkdtemp(prefix="pack-", dir="/var/tmp"))
    try:
        root = new_root(base)
        for name in ("one", "two"):
            (Path(root.containers) / name).mkdir()
            (Path(root.containers) / name).chmod(0o755)
            make_tree(Path(root.containers) / name, things, pick)
        other = new_root(base / "other")
        adopted = adopt(root, f"{root.containers}/one", epoch=epoch)
        taken = adopt_archive(other, lambda write: pack(f"{root.containers}/two", write, epoch=epoch))
        assert adopted == taken, "the same tree is the same layer"
        assert snapshot(root.layer_tree(adopted.diff_id)) == snapshot(other.layer_tree(taken.diff_id))
    finally:
        shutil.rmtree(base)


def test_a_layer_that_is_there_already_stays_and_the_new_one_goes(root: StateRoot, upper: Path) -> None:
    (upper / "file").write_text("x")
    os.utime(upper / "file", ns=(0, 7 * SECOND))
    first = adopt(root, str(upper))
    upper.mkdir()
    (upper / "file").write_text("x")
    os.utime(upper / "file", ns=(0, 7 * SECOND))
    os.utime(root.layer(first.diff_id), ns=(0, 1))
    assert adopt(root, str(upper)).diff_id == first.diff_id
    assert not upper.exists() and os.stat(root.layer(first.diff_id)).st_mtime_ns == 1


def test_an_adopted_layer_is_mounted_like_any_other(root: StateRoot, upper: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "etc").mkdir(parents=True)
    (base / "etc/passwd").write_text("root")
    (base / "gone").write_text("x")
    (base / "dir").mkdir()
    (base / "dir/hidden").write_text("x")
    lower = adopt_archive(root, lambda write: pack(str(base), write))
    hostile(upper)
    found = overlay(root, [lower.diff_id, adopt(root, str(upper)).diff_id])
    assert "gone" not in found and "dir/hidden" not in found and found["etc/passwd"][2] == "root"
    assert "opaque" in found and "socket" not in found


def test_nothing_is_left_of_a_layer_whose_archive_breaks_off(root: StateRoot) -> None:
    def broken(write: Any) -> Any:
        write(b"x" * 100)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        adopt_archive(root, broken)
    assert os.listdir(root.layers) == []
    staging.sweep(root)
