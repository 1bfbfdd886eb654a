"""How much room a directory takes."""

from __future__ import annotations

import os
from pathlib import Path

from bayplan.store import measure


def test_files_with_several_names_count_once_and_links_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for path in (inside, outside):
        path.mkdir()
        (path / "file").write_bytes(os.urandom(1 << 20))
    alone = measure.tree(str(inside))
    (inside / "again").hardlink_to(inside / "file")
    (inside / "link").symlink_to(outside)
    (inside / "file-link").symlink_to(outside / "file")
    found = measure.tree(str(inside))
    assert alone.whole and found.whole and 1 << 20 <= alone.bytes <= found.bytes < alone.bytes + (64 << 10)
    assert measure.tree(str(inside / "link")) == measure.Size(), "nor is the one that is asked for"
    assert measure.tree(str(tmp_path / "nothing")) == measure.Size()


def test_what_has_holes_counts_as_what_it_takes(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 30)
    assert measure.tree(str(tmp_path)).bytes < 1 << 20


def test_it_ends_when_its_time_is_over_and_says_so(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}/deeper").mkdir(parents=True)
    assert not measure.tree(str(tmp_path), deadline=0.0).whole


def test_what_is_too_deep_is_left_out_and_said(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(400):
            os.mkdir("d" * 200, dir_fd=directory)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        assert not measure.tree(str(tmp_path)).whole
    finally:
        os.close(directory)


def test_only_what_has_changed_since_counts(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(os.urandom(1 << 20))
    since = (tmp_path / "old").lstat().st_ctime_ns
    while True:  # until the file system's clock has gone on
        (tmp_path / "new").write_bytes(os.urandom(1 << 20))
        if (tmp_path / "new").lstat().st_ctime_ns > since:
            break
    assert 1 << 20 <= measure.tree(str(tmp_path), changed_since=since).bytes < 2 << 20
