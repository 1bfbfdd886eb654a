"""What the tests of layers share: archives made by hand, a state root, and a look at an overlay in a private namespace."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bayplan.model.digest import Digest
from bayplan.model.image import OCI_LAYER, Descriptor
from bayplan.store import drivers_vfs, layers
from bayplan.store.ingest import ingest
from bayplan.store.root import StateRoot

Entry = tuple[tarfile.TarInfo, bytes]
DAY = 1_600_000_000


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644, **more: Any) -> Entry:
    """One member of an archive; a name with a slash at its end is a directory."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if name.endswith("/") and kind == tarfile.REGTYPE else kind
    info.linkname, info.mode, info.size, info.mtime = link, mode, len(content), DAY
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, *, mode: int = 0o755, **more: Any) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Entry:
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def archive(entries: Iterable[Entry], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as file:
        for info, content in entries:
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sha256(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def new_root(tmp_path: Path) -> StateRoot:
    root = StateRoot(str(tmp_path / "state"))
    root.create()
    return root


def take(root: StateRoot, plain: bytes, *, packed: bytes | None = None) -> Digest:
    """Ingest an archive as a layer; its diff_id."""
    data = packed if packed is not None else gzip.compress(plain, 1)
    descriptor = Descriptor(f"{OCI_LAYER}+gzip", sha256(data), len(data))
    ingest(root, descriptor, sha256(plain), source=lambda: iter([data[:1000], data[1000:]]))
    return sha256(plain)


def take_entries(root: StateRoot, *entries: Entry) -> Digest:
    return take(root, archive(entries))


def tree(root: StateRoot, diff_id: Digest) -> Path:
    return Path(root.layer_tree(diff_id))


LOOK = """
import json, os, sys
from bayplan.kernel import linux
root, options, script = sys.argv[1:]
os.chdir(root)
linux.unshare(0x20000)
linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
os.mkdir("look"); os.mkdir("look/u"); os.mkdir("look/w"); os.mkdir("look/m")
linux.mount("overlay", "look/m", "overlay", 0, options)
os.chdir("look/m")
found = {}
for directory, below, files in os.walk("."):
    for name in [*below, *files]:
        path = os.path.join(directory, name)[2:]
        status = os.lstat(path)
        if os.path.islink(path): content = "-> " + os.readlink(path)
        elif os.path.isfile(path): content = open(path, encoding="latin-1").read(100)
        else: content = ""
        found[path] = [oct(status.st_mode), status.st_uid, content]
print(json.dumps(found))
"""


def overlay(root: StateRoot, diff_ids: Sequence[Digest]) -> dict[str, list[Any]]:
    """The merged tree as overlayfs shows it: path -> [mode, uid, content]. Mounted in a process's own namespace only."""
    layers.complete(root, tuple(diff_ids))
    lower = ":".join(layers.lowerdirs(root, tuple(diff_ids)))
    options = ",".join((f"lowerdir={lower},upperdir=look/u,workdir=look/w", *layers.OVERLAY_OPTIONS))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "runtime")}
    done = subprocess.run([sys.executable, "-c", LOOK, root.path, options, ""], env=environment, capture_output=True, text=True)
    subprocess.run(["rm", "-rf", f"{root.path}/look"], check=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def copied(root: StateRoot, diff_ids: Sequence[Digest], target: Path) -> dict[str, list[Any]]:
    """The merged tree as the copying driver makes it, in the same form."""
    layers.complete(root, tuple(diff_ids))
    drivers_vfs.copy_rootfs(root, tuple(diff_ids), str(target))
    found: dict[str, list[Any]] = {}
    for path in sorted(target.rglob("*")):
        status = path.lstat()
        content = f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text(encoding="latin-1")[:100] if path.is_file() else ""
        found[str(path.relative_to(target))] = [oct(status.st_mode), status.st_uid, content]
    return found
