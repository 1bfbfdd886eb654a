"""Trees become layers' archives: what is unpacked of one is the tree again, and equal trees make equal archives."""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import resource
import shutil
import socket
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayplan.errors import Conflict, Invalid
from bayplan.store import extraction
from bayplan.store.pack import Packed, pack, pack_merged
from bayplan.store.trees import remove_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="devices and whiteouts need root")

OPAQUE = "trusted.overlay.opaque"
SECOND = 1_000_000_000
# struct vfs_cap_data, revision 2: CAP_NET_BIND_SERVICE, permitted and effective
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def packed(tree: Path | str, *, epoch: int | None = None) -> tuple[bytes, Packed]:
    buffer = io.BytesIO()
    found = pack(str(tree), buffer.write, epoch=epoch)
    assert found.size == len(buffer.getvalue()), "it says how much it wrote"
    return buffer.getvalue(), found


def unpacked(archive: bytes, target: Path) -> extraction.Report:
    target.mkdir()
    target.chmod(0o755)
    running = extraction.start(str(target), algorithm="sha256", room=1 << 40)
    running.feed(archive)
    report = running.finish()
    assert report.diff_id.hex == hashlib.sha256(archive).hexdigest()
    return report


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return {each.name: each for each in file}


def snapshot(tree: Path | str) -> dict[bytes, Any]:
    """Everything that a layer has to keep, by path; hard links as groups of paths."""
    found: dict[bytes, Any] = {}
    inodes: dict[int, list[bytes]] = {}
    root = os.fsencode(tree)
    for directory, below, files in os.walk(root):
        for name in [*below, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            short = path[len(root) + 1 :]
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                found[short] = "whiteout"
                continue
            inodes.setdefault(status.st_ino, []).append(short)
            owner = (oct(status.st_mode), status.st_uid, status.st_gid)
            found[short] = (*owner, max(status.st_mtime_ns, 0), _content(path, status), _attributes(path, status))
    found[b""] = (oct(os.lstat(root).st_mode), os.lstat(root).st_uid, sorted(sorted(each) for each in inodes.values() if len(each) > 1))
    return found


def _content(path: bytes, status: os.stat_result) -> Any:
    if stat.S_ISREG(status.st_mode):
        return hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    return status.st_rdev if not stat.S_ISDIR(status.st_mode) else None


def _attributes(path: bytes, status: os.stat_result) -> list[tuple[str, bytes]]:
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return []
    names = os.listxattr(path, follow_symlinks=False)
    return sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"etc", b"with space", b"new\nline", b"\xff\xfe", b"caf\xc3\xa9", b"=", b"-rf", b"n" * 255, b"long" * 40]),
    st.binary(min_size=1, max_size=12).map(lambda data: bytes(each for each in data if each not in b"/\0")).filter(
        lambda name: name not in (b"", b".", b"..") and not name.startswith(b".wh.")
    ),
)  # fmt: skip
TIMES = st.one_of(st.integers(0, 2_000_000_000 * SECOND), st.integers(0, 2_000_000_000).map(lambda second: second * SECOND))
KINDS = st.sampled_from("directory file file link symlink symlink fifo device block whiteout opaque file".split())
THINGS = st.tuples(KINDS, NAMES, st.binary(max_size=1500), st.integers(0, 0o7777), st.integers(0, 70_000), TIMES, st.booleans())


def make_tree(root: Path, things: list[Any], pick: list[int]) -> None:
    directories, files = [os.fsencode(root)], list[bytes]()
    times: dict[bytes, int] = {}
    for number, (kind, name, content, mode, owner, mtime, marked) in enumerate(things):
        path = directories[pick[number] % len(directories)] + b"/" + name
        if os.path.lexists(path):
            continue
        if kind == "whiteout":
            os.mknod(path, stat.S_IFCHR, 0)
            continue
        _make(path, kind, content, files, directories)
        os.chown(path, owner, owner * 7 % 3_000_000, follow_symlinks=False)
        if kind not in ("symlink", "link"):
            os.chmod(path, mode)
        if marked and kind in ("file", "directory"):
            os.setxattr(path, "user.test", content[:100])
        if marked and kind == "file":
            os.setxattr(path, "security.capability", CAPABILITY)
        if kind == "opaque":
            os.setxattr(path, OPAQUE, b"y")
        times[path] = mtime
    for path, mtime in sorted(times.items(), reverse=True):
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def _make(path: bytes, kind: str, content: bytes, files: list[bytes], directories: list[bytes]) -> None:
    if kind in ("directory", "opaque"):
        os.mkdir(path)
        directories.append(path)
    elif kind == "symlink":
        os.symlink(bytes(each for each in content if each) or b"/etc/passwd", path)
        files.append(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "block":
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(4000, 1_000_000))
    elif kind == "link" and files:
        os.link(files[len(content) % len(files)], path, follow_symlinks=False)
    else:
        Path(os.fsdecode(path)).write_bytes(content * 1000 if len(content) > 1200 else content)
        files.append(path)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(THINGS, max_size=25), st.lists(st.integers(0, 100), min_size=25, max_size=25))
def test_what_is_unpacked_of_an_archive_is_the_tree_that_was_packed(things: list[Any], pick: list[int]) -> None:
    base = Path(tempfile.mkdtemp(prefix="pack-", dir="/var/tmp"))
    try:
        tree = base / "tree"
        tree.mkdir()
        make_tree(tree, things, pick)
        archive, _ = packed(tree)
        unpacked(archive, base / "again")
        assert snapshot(base / "again") == snapshot(tree), "nothing is lost and nothing is added"
        assert packed(base / "again")[0] == archive, "and it makes the same archive again"
    finally:
        shutil.rmtree(base)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "tree"
    found.mkdir()
    found.chmod(0o755)
    yield found
    remove_tree(str(found), scratch=str(tmp_path))


def test_python_and_every_other_reader_understand_the_archive(tree: Path) -> None:
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_text("root")
    (tree / ("d" * 120)).mkdir()
    (tree / ("d" * 120) / ("f" * 200)).write_text("far")
    os.link(tree / "etc/passwd", tree / ("z" * 150))
    os.symlink("t" * 300, tree / "pointer")
    os.chown(tree / "etc/passwd", 3_000_000, 4_000_000_000)
    found = members(packed(tree)[0])
    assert list(found) == [
        "d" * 120, f"{'d' * 120}/{'f' * 200}", "etc", "etc/passwd", "pointer", "z" * 150
    ], "sorted, each directory before what is in it"  # fmt: skip
    assert (found["etc/passwd"].uid, found["etc/passwd"].gid) == (3_000_000, 4_000_000_000), "ids of any size"
    assert found["pointer"].linkname == "t" * 300
    assert found["z" * 150].islnk() and found["z" * 150].linkname == "etc/passwd"
    assert found["z" * 150].uid == 3_000_000, "a further link has the attributes again: Docker sets them again"


def test_whiteouts_of_both_forms_and_opaque_directories_are_written_as_markers(tree: Path) -> None:
    os.mknod(tree / "gone", stat.S_IFCHR, 0)
    os.link(tree / "gone", tree / "gone too")
    (tree / "opaque").mkdir()
    os.setxattr(tree / "opaque", OPAQUE, b"y")
    (tree / "by attribute").mkdir()
    os.setxattr(tree / "by attribute", OPAQUE, b"x")
    (tree / "by attribute/hidden").write_bytes(b"")
    os.setxattr(tree / "by attribute/hidden", "trusted.overlay.whiteout", b"")
    (tree / "by attribute/empty").write_bytes(b"")
    found = members(packed(tree)[0])
    by_attribute = ["by attribute", "by attribute/empty", "by attribute/.wh.hidden"]
    assert list(found) == [*by_attribute, ".wh.gone", ".wh.gone too", "opaque", "opaque/.wh..wh..opq"]
    assert all(each.mtime == 0 and each.isreg() for name, each in found.items() if ".wh." in name), "a marker has no attributes of its own"


def test_a_file_whose_whiteout_has_a_name_too_long_for_a_file_stays_hidden(tree: Path, tmp_path: Path) -> None:
    os.mknod(tree / ("n" * 255), stat.S_IFCHR, 0)
    unpacked(packed(tree)[0], tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(tree)


def test_overlays_and_the_hosts_attributes_are_not_packed(tree: Path) -> None:
    (tree / "file").write_text("x")
    for name in ("trusted.overlay.origin", "user.overlay.opaque", "user.kept", "user.a=b"):
        os.setxattr(tree / "file", name, b"v")
    archive, found = packed(tree)
    assert members(archive)["file"].pax_headers.keys() - {"mtime"} == {"SCHILY.xattr.user.kept"}
    assert [each.path for each in found.left_out] == ["/file"], "what an archive cannot say is reported"


def test_sockets_and_files_with_a_whiteouts_name_are_left_out_with_a_reason(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "socket"))
    (tree / ".wh.passwd").write_text("a container wrote this")
    (tree / ".wh..wh..opq").write_text("and this")
    (tree / "dir").mkdir()
    (tree / "dir/.wh.below").mkdir()
    (tree / "dir/.wh.below/file").write_text("")
    archive, found = packed(tree)
    assert list(members(archive)) == ["dir"], "nothing of it can be mistaken for a whiteout"
    assert sorted(each.path for each in found.left_out) == ["/.wh..wh..opq", "/.wh.passwd", "/dir/.wh.below", "/socket"]


def test_the_root_is_an_entry_only_where_somebody_changed_it(tree: Path, tmp_path: Path) -> None:
    assert members(packed(tree)[0]) == {}
    tree.chmod(0o1777)
    assert members(packed(tree)[0])["."].mode == 0o1777
    unpacked(packed(tree)[0], tmp_path / "again")
    assert stat.S_IMODE((tmp_path / "again").stat().st_mode) == 0o1777


def test_times_after_the_epoch_become_it_and_none_is_before_1970(tree: Path) -> None:
    for name, seconds in (("old", 5), ("new", 2_000_000_000), ("ancient", -5), ("precise", 1)):
        (tree / name).write_text("x")
        os.utime(tree / name, ns=(0, seconds * SECOND + (7 if name == "precise" else 0)))
    found = members(packed(tree, epoch=1_000_000_000)[0])
    assert {name: each.mtime for name, each in found.items()} == {"old": 5, "new": 1_000_000_000, "ancient": 0, "precise": 1.000000007}


def test_a_tree_as_deep_as_a_path_can_be_is_packed_and_a_deeper_one_is_refused(tree: Path) -> None:
    at = os.open(tree, os.O_RDONLY)
    for _ in range(2047):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    before = len(os.listdir("/proc/self/fd"))
    archive, found = packed(tree)
    assert found.entries == 2047 and max(map(len, members(archive))) == 4093
    assert len(os.listdir("/proc/self/fd")) == before, "every descriptor is closed"
    for _ in range(40):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    with pytest.raises(Invalid, match="over 4095 bytes"):
        packed(tree)


def test_a_large_sparse_file_costs_no_memory(tree: Path) -> None:
    with open(tree / "sparse", "wb") as file:
        file.truncate(300 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = pack(str(tree), lambda data: None).size
    assert size > 300 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10, "a chunk at a time"


def test_a_file_larger_than_a_layer_may_hold_is_refused_at_once(tree: Path) -> None:
    with open(tree / "huge", "wb") as file:
        file.truncate(2 << 40)
    with pytest.raises(Invalid, match=r"'huge': it has .* over the limit"):
        pack(str(tree), lambda data: None)


def test_a_file_over_8_gigabytes_is_announced_in_full(tree: Path) -> None:
    with open(tree / "large", "wb") as file:
        file.truncate((8 << 30) + 5)
    head = bytearray()

    def write(data: bytes) -> None:
        if len(head) < 4096:
            head.extend(data[:4096])
        else:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pack(str(tree), write)
    with tarfile.open(fileobj=io.BytesIO(bytes(head))) as archive:
        entry = archive.next()
        assert entry and entry.size == (8 << 30) + 5


def test_a_lease_on_a_file_is_an_error_and_no_wait(tree: Path) -> None:
    import fcntl

    (tree / "leased").write_text("x")
    with open(tree / "leased", "r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        import signal

        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            with pytest.raises(Conflict, match="lease"):
                packed(tree)
        finally:
            signal.signal(signal.SIGIO, before)


def _exchange(first: bytes, second: bytes) -> None:
    ctypes.CDLL(None).renameat2(-100, first, -100, second, 2)


def test_a_tree_that_changes_while_it_is_read_never_leads_out_of_it(tree: Path, tmp_path: Path) -> None:
    """A directory, a link to a host's directory, a file and a fifo change places all the time."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("the host's own")
    (tree / "dir").mkdir()
    (tree / "dir/secret").write_text("inside")
    os.symlink(tmp_path / "host", tree / "link")
    (tree / "file").write_text("inside")
    os.mkfifo(tree / "fifo")
    os.symlink(tmp_path / "host/secret", tree / "to secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, other in (("dir", "link"), ("file", "fifo"), ("file", "to secret")):
                _exchange(bytes(tree / one), bytes(tree / other))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            archive, _ = packed(tree)
            assert b"the host's own" not in archive
            members(archive)
    finally:
        stop.set()
        thread.join()


def test_a_file_that_shrinks_or_grows_meanwhile_leaves_a_valid_archive(tree: Path) -> None:
    for name in "abc":
        (tree / name).write_bytes(b"x" * (3 << 20))
    pieces: list[bytes] = []

    def write(data: bytes) -> None:
        pieces.append(data)
        os.truncate(tree / "b", 10)
        with open(tree / "c", "ab") as file:
            file.write(b"more")

    pack(str(tree), write)
    found = members(b"".join(pieces))
    assert list(found) == ["a", "b", "c"], "every member is where its header says"


def test_trees_over_each_other_are_packed_as_overlayfs_shows_them(tmp_path: Path) -> None:
    low, middle, top = (tmp_path / name for name in ("low", "middle", "top"))
    for each in (low, middle, top):
        each.mkdir()
    for path in ("kept/a", "kept/b", "opaque/old", "replaced/old", "gone/x", "file"):
        (low / path).parent.mkdir(exist_ok=True)
        (low / path).write_text(f"low {path}")
    (middle / "kept").mkdir()
    os.mknod(middle / "kept/b", stat.S_IFCHR, 0)
    os.mknod(middle / "gone", stat.S_IFCHR, 0)
    (middle / "replaced").write_text("a file now")
    (top / "opaque").mkdir()
    os.setxattr(top / "opaque", OPAQUE, b"y")
    (top / "opaque/new").write_text("top")
    (top / "replaced").mkdir()
    (top / "file").mkdir(mode=0o700)
    (top / "kept").mkdir(mode=0o711)
    trees = [str(top), str(middle), str(low)]
    buffer = io.BytesIO()
    pack_merged(trees, buffer.write)
    found = members(buffer.getvalue())
    assert list(found) == ["file", "kept", "kept/a", "opaque", "opaque/new", "replaced"]
    assert found["kept"].mode == 0o711 and found["file"].isdir(), "a directory is as the topmost tree has it"
    buffer = io.BytesIO()
    pack_merged(trees[:2], buffer.write, whiteouts=True)
    assert list(members(buffer.getvalue())) == [
        "file", ".wh.gone", "kept", "kept/.wh.b", "opaque", "opaque/.wh..wh..opq", "opaque/new", "replaced", "replaced/.wh..wh..opq"
    ], "merged without the lowest, it still hides what that has: a directory over a file is opaque"  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("walking._NAMES_LIMIT", 5000, "too many names"),
        ("pack._LINKS_LIMIT", 2000, "too many files with several hard links"),
        ("pack.ENTRIES_LIMIT", 30, "over 30 entries"),
        ("pack.DIRECTORIES_LIMIT", 4, "over 4 directories"),
    ],
)
def test_what_a_tree_costs_in_memory_is_bounded(tree: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, said: str) -> None:
    for number in range(40):
        (tree / f"file{number}").write_text("x")
        os.link(tree / f"file{number}", tree / f"link{number}")
    for number in range(5):
        (tree / f"directory{number}").mkdir()
    packed(tree)
    monkeypatch.setattr(f"bayplan.store.{limit}", value)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Invalid, match=said):
        packed(tree)
    assert len(os.listdir("/proc/self/fd")) == before, "every descriptor is closed"


def test_a_link_is_forgotten_with_its_last_name(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        (tree / f"{number}a").write_text("x")
        os.link(tree / f"{number}a", tree / f"{number}b")
    monkeypatch.setattr("bayplan.store.pack._LINKS_LIMIT", 2000)
    assert packed(tree)[1].entries == 80, "only those whose other names are still to come are kept in memory"


def test_a_directory_that_is_moved_while_the_walk_is_deep_below_it_ends_there(tree: Path, tmp_path: Path) -> None:
    """Its descriptor was closed for want of descriptors, and what is at its path by then is another directory."""
    at = tree
    for _ in range(600):
        at = at / "d"
    at.mkdir(parents=True)
    (tree / "d/z").write_text("not seen any more")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/zz").write_text("the host's own")
    pieces: list[bytes] = []

    def write(data: bytes) -> None:
        pieces.append(data)
        if len(pieces) == 600:
            os.rename(tree / "d", tree / "moved")
            os.symlink(tmp_path / "host", tree / "d")

    pack(str(tree), write)
    found = members(b"".join(pieces))
    assert len(found) == 600 and not any(name.endswith(("z", "zz")) for name in found)
    (tree / "d").unlink()
