"""Hostile and honest archives become layers: nothing outside is touched, nothing is left of what is refused."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from layer_lab import (
    DAY,
    Entry,
    archive,
    copied,
    directory,
    entry,
    hardlink,
    new_root,
    overlay,
    sha256,
    symlink,
    take,
    take_entries,
    tree,
)

from bayplan.errors import BayplanError, Invalid
from bayplan.model.image import OCI_LAYER, Descriptor
from bayplan.store import blobs, ingest, layers, staging
from bayplan.store.root import StateRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking layers needs root")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[StateRoot]:
    found = new_root(tmp_path)
    yield found
    assert os.listdir(found.staging) == [], "nothing stays in staging"


def device(name: str, kind: bytes, major: int, minor: int, mode: int = 0o600) -> Entry:
    return entry(name, kind=kind, mode=mode, devmajor=major, devminor=minor)


def pax(name: str, **headers: str) -> Entry:
    return entry(name, b"x", pax_headers=headers)


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


# Each is tried against a directory that lies beside the state root; `{outside}` is its path.
ESCAPES: dict[str, Callable[[str], list[Entry]]] = {
    "dots": lambda outside: [entry("../../evil")],
    "dots in the middle": lambda outside: [entry("a/../../../evil")],
    "dots at the end": lambda outside: [directory("a/..")],
    "absolute": lambda outside: [entry(f"{outside}/evil")],
    "many slashes": lambda outside: [entry(f"//..//{outside}/evil")],
    "through an absolute link": lambda outside: [symlink("l", outside), entry("l/evil")],
    "through a relative link": lambda outside: [symlink("l", "../" * 30 + outside), entry("l/evil")],
    "through a chain of links": lambda outside: [symlink("a", outside), symlink("b", "a"), symlink("c", "b"), entry("c/evil")],
    "through a link that comes between": lambda outside: [directory("d"), entry("d/x"), symlink("d", outside), entry("d/evil")],
    "a link called dot": lambda outside: [symlink(".", outside), entry("evil")],
    "a link as the root": lambda outside: [symlink("./", outside), entry("evil")],
    "over a link": lambda outside: [symlink("evil", f"{outside}/precious"), entry("evil", b"overwritten")],
    "a hard link outside": lambda outside: [hardlink("l", f"{outside}/precious"), entry("l", b"overwritten")],
    "a hard link through dots": lambda outside: [hardlink("l", "../" * 30 + f"{outside}/precious")],
    "a hard link through a link": lambda outside: [symlink("d", outside), hardlink("l", "d/precious")],
    "a hard link to a link, then over it": lambda outside: [
        symlink("s", f"{outside}/precious"),
        hardlink("l", "s"),
        entry("l", b"overwritten"),
    ],
    "a pax path": lambda outside: [pax("good", path=f"../../..{outside}/evil")],
    "a pax link": lambda outside: [entry("l", kind=tarfile.LNKTYPE, link="x", pax_headers={"linkpath": f"../../..{outside}/precious"})],
    "a whiteout of dots": lambda outside: [entry("a/.wh...")],
    "a whiteout of a dot": lambda outside: [entry("a/.wh..")],
    "a whiteout of nothing": lambda outside: [entry("a/.wh.")],
    "a whiteout with dots before it": lambda outside: [entry("../.wh.precious")],
    "a whiteout through a link": lambda outside: [symlink("l", outside), entry("l/.wh.precious")],
    "an opaque marker through a link": lambda outside: [symlink("l", outside), entry("l/.wh..wh..opq")],
    "attributes through a link": lambda outside: [symlink("l", outside), directory("l", mode=0o777)],
    "a directory over a link": lambda outside: [symlink("l", outside), directory("l"), entry("l/evil")],
    "removal through a link": lambda outside: [directory("d"), symlink("d/l", outside), entry("d", b"now a file")],
    "a fifo through a link": lambda outside: [symlink("l", outside), entry("l/evil", kind=tarfile.FIFOTYPE)],
    "a device through a link": lambda outside: [symlink("l", outside), device("l/evil", tarfile.CHRTYPE, 1, 3)],
    "proc": lambda outside: [symlink("p", "/proc/self/root"), entry(f"p{outside}/evil")],
    "a working directory of another process": lambda outside: [symlink("p", "/proc/1/cwd"), entry(f"p{outside}/evil")],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_an_archive_cannot_reach_outside_its_layer(root: StateRoot, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o711)
    (outside / "precious").write_text("precious")
    before = outside.stat()
    error = ""
    try:
        diff_id = take_entries(root, entry("first"), *ESCAPES[name](str(outside)))
    except Invalid as refused:
        error = str(refused)
    assert sorted(os.listdir(outside)) == ["precious"], "nothing is made or removed outside"
    assert (outside / "precious").read_text() == "precious", "nothing is overwritten outside"
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns), "no attribute is changed outside"
    assert os.stat(outside / "precious").st_nlink == 1, "no link leads out"
    if error:
        assert "entry '" in error, "the error names the entry"
        assert layers.listed(root) == () and blobs.listed(root) == (), "nothing is left of an archive that is refused"
    else:
        assert (tree(root, diff_id) / "first").exists(), "else everything landed inside"


def raw_header(name: bytes, **fields: bytes) -> bytes:
    """A header with fields that no honest tool writes."""
    info = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    places = {
        "name": (0, 100),
        "mode": (100, 8),
        "uid": (108, 8),
        "size": (124, 12),
        "mtime": (136, 12),
        "flag": (156, 1),
        "link": (157, 100),
    }
    for key, value in {"name": name, **fields}.items():
        at, length = places[key]
        info[at : at + length] = value.ljust(length, b"\0")
    info[148:156] = b" " * 8
    info[148:156] = b"%06o\0 " % sum(info)
    return bytes(info)


def raw_pax(records: bytes) -> bytes:
    return raw_header(b"x", flag=b"x", size=b"%011o" % len(records)) + records.ljust(512, b"\0")


def long_path(depth: int) -> str:
    return "/".join(["d"] * depth) + "/f"


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated in a file": (lambda: archive([entry("a", b"x" * 5000)])[:2000], "truncated"),
    "truncated in a header": (lambda: archive([entry("a", b"x" * 512)])[:700], "truncated"),
    "not an archive": (lambda: b"<html>" * 200, "not a tar archive"),
    "a wrong checksum": (lambda: archive([entry("a")]).replace(b"0000644", b"0000777", 1), "checksum"),
    "a negative size": (lambda: raw_header(b"a", size=b"\xff" * 12) + bytes(1024), "negative"),
    "an enormous size": (lambda: raw_header(b"a", size=b"\x80" + b"\x7f" * 11) + bytes(1024), "over the limit"),
    "a size that is no number": (lambda: raw_header(b"a", size=b"zzz") + bytes(1024), "not a number"),
    "an owner that is nobody's": (lambda: raw_header(b"a", uid=b"\x80\0\0\0\xff\xff\xff\xff") + bytes(1024), "over the limit"),
    "a path 4,096 deep": (lambda: archive([entry(long_path(4096))]), "longer than"),
    "a name of 64 kB": (lambda: archive([entry("a" * 65536)]), "longer than"),
    "a GNU name of 64 kB": (lambda: archive([entry("a" * 65536)], format=tarfile.GNU_FORMAT), "longer than"),
    "a component of 300 bytes": (lambda: archive([entry("a" * 300)]), "component is longer"),
    "a name with a NUL": (lambda: archive([pax("x", path="a\0b")]), "NUL"),
    "a pax header of a gigabyte": (lambda: raw_header(b"x", flag=b"x", size=b"%011o" % (1 << 30)) + bytes(2048), "over the limit"),
    "a GNU long name of a gigabyte": (lambda: raw_header(b"x", flag=b"L", size=b"%011o" % (1 << 30)) + bytes(2048), "over the limit"),
    "a pax record without a length": (
        lambda: raw_header(b"x", flag=b"x", size=b"%011o" % 8) + b"nonsense".ljust(512, b"\0"),
        "malformed",
    ),
    "a pax record that is longer than it is": (
        lambda: raw_header(b"x", flag=b"x", size=b"%011o" % 8) + b"99 a=bc\n".ljust(512, b"\0"),
        "malformed",
    ),
    "a negative pax size": (lambda: archive([pax("x", size="-5")]), "not a number"),
    "a GNU sparse file": (lambda: raw_header(b"a", flag=b"S") + bytes(1024), "sparse"),
    "a pax sparse file": (lambda: archive([pax("x", **{"GNU.sparse.major": "1"})]), "sparse"),
    "an unknown kind": (lambda: raw_header(b"a", flag=b"Z") + bytes(1024), "of a kind"),
    "a link without a target": (lambda: archive([symlink("a", "")]), "target is empty"),
    "a link to 64 kB": (lambda: archive([symlink("a", "x" * 65536)]), "too long"),
    "a hard link before its target": (lambda: archive([hardlink("a", "b"), entry("b")]), "does not hold before"),
    "a hard link to a directory": (lambda: archive([directory("d"), hardlink("a", "d")]), "to a directory"),
    "a hard link to itself": (lambda: archive([entry("a"), hardlink("a", "./a")]), "to itself"),
    "a file below a file": (lambda: archive([entry("a"), entry("a/b")]), "cannot be made"),
    "a device that does not exist": (lambda: archive([device("a", tarfile.CHRTYPE, 1 << 13, 0)]), "no device"),
    "overlay's opaque attribute": (lambda: archive([pax("x", **{"SCHILY.xattr.trusted.overlay.opaque": "y"})]), "overlayfs"),
    "overlay's redirect attribute": (lambda: archive([pax("x", **{"SCHILY.xattr.trusted.overlay.redirect": "/etc"})]), "overlayfs"),
    "overlay's attribute for users": (lambda: archive([pax("x", **{"SCHILY.xattr.user.overlay.metacopy": "y"})]), "overlayfs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_absurd_archive_is_refused_and_leaves_nothing(root: StateRoot, name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(Invalid, match=said):
        take(root, make())
    assert layers.listed(root) == () and blobs.listed(root) == () and os.listdir(root.links) == [], "nothing is left of it"


def test_a_name_4_095_bytes_long_is_unpacked_and_can_be_removed(root: StateRoot) -> None:
    name = "/".join(["d"] * 2047) + "/"
    diff_id = take_entries(root, entry(name + "f", b"deep"))
    layers.remove(root, diff_id)
    assert layers.listed(root) == () and os.listdir(root.links) == [], "no depth stops a removal"


@pytest.mark.parametrize("times", [1, 3])
def test_a_decompression_bomb_is_stopped_where_there_is_no_more_room(
    root: StateRoot, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(ingest, "room", lambda directory: 64 << 20)
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(9, wbits=31)
    head = raw_header(b"bomb", size=b"%011o" % (1 << 30))
    packed = packer.compress(head) + b"".join(packer.compress(zeros) for _ in range(1024)) + packer.flush()
    assert len(packed) < 2 << 20
    with pytest.raises(Invalid, match="room"):
        take(root, b"", packed=packed * times)
    assert layers.listed(root) == () and blobs.listed(root) == ()


def test_trailing_data_belongs_to_the_digest_and_is_not_unpacked(root: StateRoot) -> None:
    plain = archive([entry("a", b"1")]) + archive([entry("b", b"2")])
    assert os.listdir(tree(root, take(root, plain))) == ["a"]


def test_an_empty_archive_is_an_empty_layer(root: StateRoot) -> None:
    assert os.listdir(tree(root, take(root, archive([])))) == []
    assert os.listdir(tree(root, take(root, b""))) == [], "even one without its end"


def test_a_wrong_diff_id_is_refused_and_leaves_nothing(root: StateRoot) -> None:
    data = gzip.compress(archive([entry("a")]))
    descriptor = Descriptor(f"{OCI_LAYER}+gzip", sha256(data), len(data))
    with pytest.raises(Invalid, match="config says"):
        ingest.ingest(root, descriptor, sha256(b"another"), source=lambda: [data])
    assert layers.listed(root) == () and blobs.listed(root) == ()


@pytest.mark.parametrize("change", ["digest", "longer", "shorter"])
def test_a_blob_with_a_wrong_digest_or_size_is_refused_and_leaves_nothing(root: StateRoot, change: str) -> None:
    plain = archive([entry("a")])
    data = gzip.compress(plain)
    size = {"digest": len(data), "longer": len(data) - 1, "shorter": len(data) + 1}[change]
    digest = sha256(b"other") if change == "digest" else sha256(data)
    with pytest.raises(Invalid):
        ingest.ingest(root, Descriptor(f"{OCI_LAYER}+gzip", digest, size), sha256(plain), source=lambda: [data])
    assert layers.listed(root) == () and blobs.listed(root) == ()


def test_everything_that_a_layer_may_hold_is_made_as_it_says(root: StateRoot) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w", format=tarfile.PAX_FORMAT) as file:
        for info, content in [
            directory("d", mode=0o1777, uid=1000, gid=1001),
            entry("d/suid", b"program", mode=0o4755, uid=33, gid=34),
            symlink("d/link", "/etc/passwd"),
            hardlink("d/hard", "d/suid"),
            entry("d/fifo", kind=tarfile.FIFOTYPE, mode=0o620),
            device("d/null", tarfile.CHRTYPE, 1, 3, 0o666),
            device("d/disk", tarfile.BLKTYPE, 8, 1),
            entry("d/big", b"z" * 3_000_000, uid=3_000_000_000),
            pax("d/caps", **{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": "hello"}),
            entry("l" * 150 + "/" + "ü" * 100, b"long"),
        ]:
            file.addfile(info, io.BytesIO(content))
    layer = tree(root, take(root, text.getvalue()))
    found = {name: (layer / "d" / name).lstat() for name in os.listdir(layer / "d")}
    parent = (layer / "d").lstat()
    assert (stat.S_IMODE(parent.st_mode), parent.st_uid, parent.st_gid, parent.st_mtime) == (0o1777, 1000, 1001, DAY)
    assert (stat.S_IMODE(found["suid"].st_mode), found["suid"].st_uid, found["suid"].st_gid) == (0o4755, 33, 34)
    assert found["suid"].st_mtime == DAY and found["hard"].st_ino == found["suid"].st_ino
    assert os.readlink(layer / "d/link") == "/etc/passwd" and found["link"].st_mtime == DAY
    assert stat.S_ISFIFO(found["fifo"].st_mode) and stat.S_IMODE(found["fifo"].st_mode) == 0o620
    assert stat.S_ISCHR(found["null"].st_mode) and found["null"].st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK(found["disk"].st_mode) and found["disk"].st_rdev == os.makedev(8, 1)
    assert found["big"].st_uid == 3_000_000_000 and found["big"].st_size == 3_000_000
    assert os.getxattr(layer / "d/caps", "user.note") == b"hello"
    assert os.getxattr(layer / "d/caps", "security.capability")[:4] == struct.pack("<I", 0x02000001)
    assert (layer / ("l" * 150) / ("ü" * 100)).read_text() == "long"


def test_the_later_of_two_entries_counts(root: StateRoot) -> None:
    layer = tree(
        root,
        take_entries(
            root,
            entry("file", b"1"),
            entry("file", b"2"),
            directory("d"),
            entry("d/x"),
            entry("d", b"file over directory"),
            entry("f"),
            directory("f"),
            symlink("link", "gone"),
            entry("link", b"file over link"),
            directory("same", mode=0o700),
            entry("same/kept"),
            directory("same", mode=0o750),
        ),
    )
    assert (layer / "file").read_text() == "2" and (layer / "d").read_text() == "file over directory"
    assert (layer / "f").is_dir() and (layer / "link").read_text() == "file over link"
    assert stat.S_IMODE((layer / "same").stat().st_mode) == 0o750 and (layer / "same/kept").exists()


def test_state_directories_keep_other_users_away_from_set_user_id_files(root: StateRoot) -> None:
    layer = tree(root, take_entries(root, entry("su", b"", mode=0o4755)))
    assert stat.S_IMODE(os.stat(root.path).st_mode) == 0o700 and stat.S_IMODE(layer.parent.stat().st_mode) == 0o700


WHITEOUTS: dict[str, tuple[list[list[Entry]], list[str]]] = {
    "a file": ([[entry("a"), entry("b")], [entry(".wh.a")]], ["b"]),
    "a directory": ([[directory("d"), entry("d/x"), entry("b")], [entry(".wh.d")]], ["b"]),
    "a file of a directory": ([[directory("d"), entry("d/x"), entry("d/y")], [directory("d"), entry("d/.wh.x")]], ["d", "d/y"]),
    "an opaque directory": ([[directory("d"), entry("d/x")], [directory("d"), entry("d/.wh..wh..opq"), entry("d/y")]], ["d", "d/y"]),
    "opaque, said last": ([[directory("d"), entry("d/x")], [directory("d"), entry("d/y"), entry("d/.wh..wh..opq")]], ["d", "d/y"]),
    "a directory that is made anew": ([[directory("d"), entry("d/x")], [entry(".wh.d"), directory("d"), entry("d/y")]], ["d", "d/y"]),
    "made anew, said last": ([[directory("d"), entry("d/x")], [directory("d"), entry("d/y"), entry(".wh.d")]], ["d", "d/y"]),
    "made anew, only implied": ([[directory("d"), entry("d/x")], [entry(".wh.d"), entry("d/y")]], ["d", "d/y"]),
    "a file that is made anew": ([[entry("a", b"1")], [entry(".wh.a"), entry("a", b"2")]], ["a"]),
    "a whiteout does not hide its own layer": ([[entry("x")], [entry("a"), entry(".wh.a")]], ["a", "x"]),
    "of what is not there": ([[entry("a")], [entry(".wh.nothing")]], ["a"]),
    "a whole layer": ([[entry("a"), directory("d"), entry("d/x")], [entry(".wh..wh..opq"), entry("n")]], ["n"]),
    "a whole layer, thrice": ([[entry("a")], [entry(".wh..wh..opq"), entry("n")], [entry("m")]], ["m", "n"]),
    "hidden and back": ([[directory("d"), entry("d/x")], [entry(".wh.d")], [entry("d/z")]], ["d", "d/z"]),
    "aufs' bookkeeping": ([[entry("a")], [entry(".wh..wh.plnk"), entry(".wh..wh.aufs")]], ["a"]),
    "a link over a directory": ([[directory("d"), entry("d/x")], [symlink("d", "elsewhere")]], ["d"]),
}


@pytest.mark.parametrize("name", WHITEOUTS)
def test_whiteouts_hide_what_the_specification_says_in_overlay_and_in_copies(root: StateRoot, tmp_path: Path, name: str) -> None:
    archives, expected = WHITEOUTS[name]
    diff_ids = [take_entries(root, *each) for each in archives]
    assert sorted(overlay(root, diff_ids)) == expected
    assert copied(root, diff_ids, tmp_path / "copy") == overlay(root, diff_ids), "the copying driver makes the same"


def test_the_result_is_docker_s(root: StateRoot, tmp_path: Path) -> None:
    """A second opinion on one long history: umoci's rules as tar and rm apply them."""
    steps: list[list[Entry]] = [
        [directory("etc"), entry("etc/a", b"1"), entry("etc/b", b"1"), directory("var/lib"), entry("var/lib/x", b"1")],
        [directory("etc"), entry("etc/.wh.a"), entry("etc/b", b"2"), symlink("lib", "var/lib")],
        [entry(".wh.var"), directory("var"), entry("var/y", b"3")],
    ]
    found = {path: content for path, (_, _, content) in overlay(root, [take_entries(root, *each) for each in steps]).items()}
    assert found == {"etc": "", "etc/b": "2", "lib": "-> var/lib", "var": "", "var/y": "3"}


IMPLIED: dict[str, tuple[list[list[Entry]], dict[str, int]]] = {
    "tmp keeps its mode": ([[directory("tmp", mode=0o1777)], [entry("tmp/x")]], {"tmp": 0o1777}),
    "through a layer that implies it too": ([[directory("tmp", mode=0o1777)], [entry("tmp/x")], [entry("tmp/y")]], {"tmp": 0o1777}),
    "two deep": ([[directory("a", mode=0o700), directory("a/b", mode=0o711)], [entry("a/b/x")]], {"a": 0o700, "a/b": 0o711}),
    "explicit above implied": (
        [[directory("a", mode=0o700), directory("a/b", mode=0o711)], [directory("a", mode=0o750), entry("a/b/x")]],
        {"a": 0o750, "a/b": 0o711},
    ),
    "nobody has it": ([[entry("x")], [entry("n/y")]], {"n": 0o755}),
    "it was hidden meanwhile": ([[directory("tmp", mode=0o1777)], [entry(".wh.tmp")], [entry("tmp/x")]], {"tmp": 0o755}),
    "its parent was made opaque": (
        [
            [directory("a", mode=0o700), directory("a/b", mode=0o700)],
            [directory("a", mode=0o711), entry("a/.wh..wh..opq")],
            [entry("a/b/x")],
        ],
        {"a": 0o711, "a/b": 0o755},
    ),
    "it was a file meanwhile": ([[directory("tmp", mode=0o1777)], [entry("tmp")], [entry("tmp/x")]], {"tmp": 0o755}),
    "changed later": ([[directory("tmp", mode=0o1777)], [entry("tmp/x")], [directory("tmp", mode=0o700)]], {"tmp": 0o700}),
    "removed later": ([[directory("tmp", mode=0o1777)], [entry("tmp/x")], [entry(".wh.tmp"), entry("z")]], {}),
}


@pytest.mark.parametrize("name", IMPLIED)
def test_a_directory_that_a_layer_only_implies_keeps_its_parents_attributes(root: StateRoot, tmp_path: Path, name: str) -> None:
    archives, expected = IMPLIED[name]
    diff_ids = [take_entries(root, *each) for each in archives]
    found = overlay(root, diff_ids)
    modes = {path: int(mode, 8) & 0o7777 for path, (mode, _, _) in found.items() if int(mode, 8) & 0o40000 == 0o40000}
    assert modes == expected
    assert copied(root, diff_ids, tmp_path / "copy") == found


def test_the_same_layer_on_other_parents_takes_their_attributes(root: StateRoot) -> None:
    child = take_entries(root, entry("tmp/x"))
    first, second = take_entries(root, directory("tmp", mode=0o1777)), take_entries(root, directory("tmp", mode=0o700))
    modes = [overlay(root, [parent, child])["tmp"][0] for parent in (first, second)]
    assert modes == ["0o41777", "0o40700"], "the layer is shared, the attributes are not"


def test_a_layer_that_comes_twice_is_stacked_once_where_it_is_highest(root: StateRoot) -> None:
    empty, one, two = take_entries(root), take_entries(root, entry("a", b"1")), take_entries(root, entry("a", b"2"))
    assert overlay(root, [one, empty, two, empty, one])["a"][2] == "1"
    assert len(layers.lowerdirs(root, (one, empty, two, empty, one))) == 3


def test_two_hundred_layers_fit_into_a_mount(root: StateRoot) -> None:
    diff_ids = [take_entries(root, entry(f"f{number}")) for number in range(200)]
    assert len(overlay(root, diff_ids)) == 200


@pytest.mark.parametrize("codec", ["", "gzip", "members", "zstd", "frames", "bzip2", "xz"])
def test_every_compression_is_read(root: StateRoot, codec: str) -> None:
    plain = archive([entry("a", os.urandom(200_000) + bytes(3_000_000)), entry("b", b"x" * 700)])
    half = len(plain) // 2
    packed = {
        "": lambda: plain,
        "gzip": lambda: gzip.compress(plain),
        "members": lambda: gzip.compress(plain[:half]) + gzip.compress(plain[half:]) + bytes(64),
        "zstd": lambda: run("zstd", plain),
        "frames": lambda: run("zstd", plain[:half]) + run("zstd", plain[half:]),
        "bzip2": lambda: run("bzip2", plain),
        "xz": lambda: run("xz", plain),
    }[codec]()
    assert sorted(os.listdir(tree(root, take(root, plain, packed=packed)))) == ["a", "b"]


def run(program: str, data: bytes) -> bytes:
    return subprocess.run([program, "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("codec", ["gzip", "zstd", "bzip2", "xz"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "followed by nonsense"])
def test_damaged_compression_is_refused_and_leaves_nothing(root: StateRoot, codec: str, damage: str) -> None:
    plain = archive([entry("a", os.urandom(50_000))])
    packed = bytearray(run(codec, plain))
    if damage == "truncated":
        del packed[-20_000:]
    elif damage == "changed":
        packed[len(packed) // 2 : len(packed) // 2 + 2000] = bytes(2000)
    else:
        packed += b"nonsense" * 10
    with pytest.raises(Invalid):
        take(root, plain, packed=bytes(packed))
    assert layers.listed(root) == () and blobs.listed(root) == ()


def test_the_zstd_command_does_where_the_library_is_missing(root: StateRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    from bayplan.store import codecs

    def missing() -> None:
        raise OSError("no such library")

    monkeypatch.setattr(codecs, "load_libzstd", missing)
    plain = archive([entry("a", os.urandom(300_000)), entry("b", bytes(5_000_000))])
    assert sorted(os.listdir(tree(root, take(root, plain, packed=run("zstd", plain))))) == ["a", "b"]
    with pytest.raises(Invalid, match="zstd"):
        take(root, plain + b"x", packed=run("zstd", plain)[:-9])
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(BayplanError, match="install one of them"):
        take(root, plain + b"y", packed=run("zstd", plain))


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(root: StateRoot) -> None:
    os.makedirs(f"{root.staging}/layer-dead/layer/diff/d")
    os.mkdir(f"{root.staging}/.remove-dead")
    with staging.claimed(root, "layer-alive") as alive:
        staging.sweep(root)
        assert os.listdir(root.staging) == ["layer-alive"] and os.path.isdir(alive)


def test_a_second_process_waits_for_the_first_one_s_layer(root: StateRoot) -> None:
    plain = archive([entry("a", os.urandom(3_000_000))])
    pids = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                take(root, plain)
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 5, "all succeed"
    assert layers.listed(root) == (sha256(plain),)


def test_the_driver_is_found_out_once_and_kept(root: StateRoot) -> None:
    assert layers.driver(root) == "overlay"
    Path(root.driver).write_text("copy\n")
    assert layers.driver(root) == "vfs", "it is not tried again, and this is what the driver was called"


def test_whiteouts_are_character_devices_and_opaque_is_an_attribute(root: StateRoot) -> None:
    layer = tree(root, take_entries(root, entry("d/.wh.x"), entry("o/.wh..wh..opq")))
    assert is_whiteout(layer / "d/x") and os.getxattr(layer / "o", "trusted.overlay.opaque") == b"y"
