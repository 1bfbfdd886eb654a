"""Reading an image's archive, whoever wrote it: its layers applied in memory to a tree, and its config.

Sources: OCI image-spec 1.1 (image-layout.md, layer.md: whiteouts, hard links) and what `docker save` writes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
XATTR = "SCHILY.xattr."
SHOWN = 60  # a longer content is shown as its digest
KINDS = {tarfile.SYMTYPE: "link", tarfile.DIRTYPE: "dir", tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block"}
Json = dict[str, Any]


class Node(NamedTuple):
    """`number` is the inode's: two paths that have one number are one file. `detail` is what it holds, or where it leads."""

    kind: str
    mode: int
    owner: str
    detail: str
    xattrs: tuple[tuple[str, str], ...]
    number: int


class Image(NamedTuple):
    """`tree` is without the root itself; its paths have no leading slash. `lowest` is the diff_id of the lowest layer."""

    tree: Mapping[str, Node]
    config: Json

    @property
    def lowest(self) -> str:
        return next(iter(self.config["rootfs"].get("diff_ids") or ()), "")


def read_image(archive: Path) -> Image:
    """Of a tar archive that is an OCI layout, or what `docker save` writes; it holds one image."""
    with tarfile.open(archive) as tar:
        members = {each.name.removeprefix("./"): each for each in tar}

        def content(name: str) -> bytes:
            member = members[name]
            while member.issym():  # Docker 20.10 writes a layer that is there already as a link to `../ID/layer.tar`
                member = members[os.path.normpath(Path(member.name).parent / member.linkname)]
            file = tar.extractfile(member)
            assert file, f"{archive}: {name} is a file"
            return file.read()

        config, layers = _from_docker(content) if "manifest.json" in members else _from_layout(content)
    return Image(apply(map(plain, layers)), config)


def _from_docker(content: Any) -> tuple[Json, list[bytes]]:
    (described,) = json.loads(content("manifest.json"))
    return json.loads(content(described["Config"])), [content(name) for name in described["Layers"]]


def _from_layout(content: Any) -> tuple[Json, list[bytes]]:
    def blob(descriptor: Json) -> bytes:
        name = "blobs/" + descriptor["digest"].replace(":", "/")
        return bytes(content(name))

    (descriptor,) = json.loads(content("index.json"))["manifests"]
    manifest = json.loads(blob(descriptor))
    return json.loads(blob(manifest["config"])), [blob(layer) for layer in manifest["layers"]]


def plain(layer: bytes) -> bytes:
    if layer.startswith(b"\x1f\x8b"):
        return gzip.decompress(layer)
    if layer.startswith(b"\x28\xb5\x2f\xfd"):
        return subprocess.run(["zstd", "-dc"], input=layer, capture_output=True, check=True).stdout
    return layer


def apply(layers: Iterable[bytes]) -> dict[str, Node]:
    tree: dict[str, Node] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape") as tar:
            entries = [(_path(each), each) for each in tar]
            for path, _ in entries:  # these are of the layers below, wherever they stand in the archive
                _white_out(tree, path)
            for path, entry in entries:
                if path and WHITEOUT not in path.rpartition("/")[2][: len(WHITEOUT)]:
                    _add(tree, path, entry, tar)
    return tree


def _path(entry: tarfile.TarInfo) -> str:
    return entry.name.removeprefix("./").strip("/") if entry.name != "." else ""


def _white_out(tree: dict[str, Node], path: str) -> None:
    parent, _, name = path.rpartition("/")
    if name == OPAQUE:
        _remove_below(tree, parent)
    elif name.startswith(WHITEOUT):
        hidden = f"{parent}/{name.removeprefix(WHITEOUT)}".lstrip("/")
        _remove_below(tree, hidden)
        tree.pop(hidden, None)


def _remove_below(tree: dict[str, Node], directory: str) -> None:
    for path in [path for path in tree if path.startswith(f"{directory}/")]:
        del tree[path]


def _add(tree: dict[str, Node], path: str, entry: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    for end in (index for index, letter in enumerate(path) if letter == "/"):
        tree.setdefault(path[:end], Node("dir", 0o755, "0:0", "", (), _next()))  # only implied
    if entry.islnk():
        tree[path] = tree[entry.linkname.removeprefix("./").strip("/")]
        return
    if not entry.isdir():
        _remove_below(tree, path)
    kind = KINDS.get(entry.type, "file")
    detail = ""
    if kind == "file":
        file = tar.extractfile(entry)
        assert file, f"{path} is a file"
        detail = shown(file.read())
    elif kind in ("char", "block"):
        detail = f"{entry.devmajor}:{entry.devminor}"
    elif kind == "link":
        detail = entry.linkname
    found = {name[len(XATTR) :]: value for name, value in entry.pax_headers.items() if name.startswith(XATTR)}
    mode = 0o777 if kind == "link" else entry.mode & 0o7777
    tree[path] = Node(kind, mode, f"{entry.uid}:{entry.gid}", detail, tuple(sorted(found.items())), _next())


_made = iter(range(1, 1 << 40))


def _next() -> int:
    return next(_made)


def shown(content: bytes) -> str:
    """Short text as it is, in JSON's quotes; anything else as its size and digest."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    short = text and len(text) <= SHOWN and all(each.isprintable() or each in "\n\t\r" for each in text)
    if short or not content:
        return json.dumps(text, ensure_ascii=False)
    return f"{len(content)} bytes {hashlib.sha256(content).hexdigest()[:16]}"


def described(tree: Mapping[str, Node]) -> dict[str, str]:
    """Each path, with a leading slash, and what is there: 'file "content"', 'file 600 1000:50 "x"', 'dir', 'link -> TARGET'.

    A mode is said where it is not 644 (755 of a directory), an owner where it is not 0:0; times are not looked at.
    """
    paths: dict[int, list[str]] = {}
    for path, node in tree.items():
        paths.setdefault(node.number, []).append(readable(path))
    return {readable(path): _words(node, sorted(paths[node.number])) for path, node in tree.items()}


def readable(path: str) -> str:
    """With a leading slash."""
    return "/" + escaped(path)


def escaped(name: str) -> str:
    """What is no text, or not to be printed, as escapes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1].replace("\\udc", "\\x") for each in name)


def _words(node: Node, paths: list[str]) -> str:
    usual = {"dir": 0o755, "link": 0o777}.get(node.kind, 0o644)
    words = [node.kind]
    words += [] if node.mode == usual else [f"{node.mode:o}"]
    words += [] if node.owner == "0:0" else [node.owner]
    words += ["->", escaped(node.detail)] if node.kind == "link" else [node.detail] if node.detail else []
    words += [f"{name}={json.dumps(value)}" for name, value in node.xattrs if name != "security.selinux"]
    words += ["linked with " + " ".join(each for each in paths)] if len(paths) > 1 else []
    return " ".join(words)


def changes(tree: Mapping[str, Node], base: Mapping[str, Node]) -> dict[str, str]:
    """What is described otherwise than in the base; 'gone' is what only the base has."""
    now, before = described(tree), described(base)
    found = {path: now.get(path, "gone") for path in now.keys() | before.keys() if now.get(path) != before.get(path)}
    return dict(sorted(found.items()))


def settings(config: Json) -> Json:
    """What a config says, empty values left out; of its history, L for each entry with a layer, - for one without."""
    said = {name: value for name, value in (config.get("config") or {}).items() if value not in (None, "", [], {}, False)}
    for name in ("Image", "Hostname", "ArgsEscaped"):  # the classic builder's own notes
        said.pop(name, None)
    for name in ("ExposedPorts", "Volumes"):
        if name in said:
            said[name] = sorted(said[name])
    if config.get("author"):
        said["author"] = config["author"]
    history = config.get("history") or []
    said["history"] = "".join("-" if entry.get("empty_layer") else "L" for entry in history)
    return dict(sorted(said.items()))
