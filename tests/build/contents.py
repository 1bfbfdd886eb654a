"""Making a case's files, as dockerfile_cases.py says what there is: in a directory, in an archive, in a git repository."""

from __future__ import annotations

import base64
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from bz2 import compress as bzip2
from pathlib import Path
from typing import Any

Json = dict[str, Any]
TIME = 1_000_000_000  # of an archive's entries, and of commits
GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
       "GIT_AUTHOR_DATE": f"{TIME} +0000", "GIT_COMMITTER_DATE": f"{TIME} +0000", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent",
       "PATH": "/usr/bin:/bin"}  # fmt: skip


def write_files(directory: Path, files: Json, *, time: int = TIME) -> None:
    """`time` is every file's, in seconds."""
    directory.mkdir(exist_ok=True)
    for name, value in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        said: Json = value if isinstance(value, dict) else {"content": value or ""}
        _write(directory, path, said, is_directory=name.endswith("/"))
        _attribute(path, said, time, is_directory=name.endswith("/"))


def _write(directory: Path, path: Path, said: Json, *, is_directory: bool) -> None:
    if is_directory:
        path.mkdir(exist_ok=True)
    elif "link" in said:
        path.symlink_to(said["link"])
    elif "hardlink" in said:
        path.hardlink_to(directory / said["hardlink"])
    elif "fifo" in said:
        os.mkfifo(path)
    elif "char" in said:
        major, minor = map(int, said["char"].split(":"))
        os.mknod(path, 0o020644, os.makedev(major, minor))
    elif "git" in said:
        _make_repository(path, said["git"])
    else:
        path.write_bytes(content(said))


def content(said: Json) -> bytes:
    """What a file holds: text, bytes, or an archive."""
    if "base64" in said:
        return base64.b64decode(said["base64"])
    plain = archive(said["tar"]) if "tar" in said else str(said.get("content", "")).encode()
    return compressed(plain, said.get("compression", ""))


def _attribute(path: Path, said: Json, time: int, *, is_directory: bool) -> None:
    if "hardlink" in said:
        return
    owner = [int(number) for number in str(said.get("owner", "0:0")).split(":")]
    os.chown(path, *owner, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(int(str(said.get("mode", "755" if is_directory else "644")), 8))
        for name, value in said.get("xattrs", {}).items():
            os.setxattr(path, name, value.encode())
    os.utime(path, (time, time), follow_symlinks=False)


def archive(files: Json) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, value in files.items():
            said: Json = value if isinstance(value, dict) else {"content": value or ""}
            entry, data = _entry(name, said)
            said = files[said["hardlink"]] if "hardlink" in said else said  # one file has one set of attributes
            entry.size, entry.mtime = len(data), TIME
            entry.mode = int(str(said.get("mode", "755" if name.endswith("/") else "644")), 8)
            entry.uid, entry.gid = (int(number) for number in str(said.get("owner", "0:0")).split(":"))
            entry.pax_headers = {f"SCHILY.xattr.{key}": text for key, text in said.get("xattrs", {}).items()}
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def _entry(name: str, said: Json) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name.rstrip("/"))
    if name.endswith("/"):
        entry.type = tarfile.DIRTYPE
    elif "link" in said or "hardlink" in said:
        entry.type, entry.linkname = (tarfile.SYMTYPE, said["link"]) if "link" in said else (tarfile.LNKTYPE, said["hardlink"])
    elif "fifo" in said:
        entry.type = tarfile.FIFOTYPE
    elif "char" in said:
        entry.type = tarfile.CHRTYPE
        entry.devmajor, entry.devminor = map(int, said["char"].split(":"))
    else:
        return entry, content(said)
    return entry, b""


def compressed(data: bytes, how: str) -> bytes:
    if how == "zst":
        return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout
    ways = {"": bytes, "gz": lambda plain: gzip.compress(plain, mtime=TIME), "bz2": bzip2, "xz": lzma.compress}
    return bytes(ways[how](data))


def _make_repository(path: Path, files: Json) -> None:
    """A bare repository whose branch `main` has one commit, tagged v1."""
    work = path.with_name(path.name + ".work")
    write_files(work, files)

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=work, env=GIT, check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    git("tag", "v1")
    git("clone", "--quiet", "--bare", ".", str(path))
    for name in ("uploadpack.allowAnySHA1InWant", "http.receivepack"):
        subprocess.run(["git", "-C", path, "config", name, "true"], env=GIT, check=True)
