"""Builds the archive that is carried to a host: `bayplan/` with what it needs from outside, as one zip.

The same tree gives the same bytes, wherever it lies, whoever owns it and whichever Python builds it: names are sorted, dates and
modes fixed, and nothing is compressed, because zlib's output differs between its versions. Its name on a host is its digest.

    python runtime/archive.py vendor          fetch what vendor.txt names into bayplan/_vendor
    python runtime/archive.py build FILE      write the archive, print its digest
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "build" / "archives"

MAIN = """\
import sys

from bayplan.cli.main import main

main(sys.argv[1:])
"""


def build(tree: Path = HERE) -> bytes:
    """The archive of `tree`/bayplan. Raises FileNotFoundError where what travels with it has not been fetched."""
    if not (tree / "bayplan" / "_vendor").is_dir():
        raise FileNotFoundError(f"{tree}/bayplan/_vendor is not there: run `python runtime/archive.py vendor` first")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [("__main__.py", MAIN.encode()), *((name, path.read_bytes()) for name, path in sources(tree))]:
            archive.writestr(_entry(name), content)
    return buffer.getvalue()


def digest(archive: bytes) -> str:
    """What an archive is called: the hexadecimal digits of its sha256."""
    return hashlib.sha256(archive).hexdigest()


def sources(tree: Path = HERE) -> list[tuple[str, Path]]:
    """Every file that travels, as (name in the archive, path), sorted by name."""
    found = []
    for directory, names, files in os.walk(tree / "bayplan"):
        names[:] = [name for name in names if name != "__pycache__"]
        paths = [Path(directory, name) for name in files if name.endswith((".py", "LICENSE"))]
        found += [(path.relative_to(tree).as_posix(), path) for path in paths]
    return sorted(found)


def cached(tree: Path = HERE, cache: Path = CACHE) -> Path:
    """The path of the archive of a checkout, built when a source has changed: `cache`/DIGEST.zip.

    A change is seen by names, sizes and modification times, so that a playbook's every task does not read every source.
    """
    stats = [(name, path.stat()) for name, path in sources(tree)]
    state = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]).encode()
    marker = cache / f"{hashlib.sha256(state).hexdigest()[:32]}.digest"
    if marker.exists():
        path = cache / f"{marker.read_text()}.zip"
        if path.exists():
            return path
    archive = build(tree)
    path = cache / f"{digest(archive)}.zip"
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.iterdir():
        if old.stat().st_mtime < time.time() - 3600:  # a playbook that still runs may be about to send it
            old.unlink(missing_ok=True)
    _replace(path, archive)
    _replace(marker, digest(archive).encode())
    return path


def vendor(tree: Path = HERE) -> None:
    """Fetch the wheels that vendor.txt pins, check their hashes, and unpack their packages into bayplan/_vendor."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir", "--dest", scratch)
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-r", str(tree / "vendor.txt")]
        subprocess.run(command, check=True)
        unpacked = Path(scratch, "unpacked")
        for wheel in sorted(Path(scratch).glob("*.whl")):
            _unpack_wheel(wheel, unpacked)
        target = tree / "bayplan" / "_vendor"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(unpacked, target)


def _unpack_wheel(wheel: Path, target: Path) -> None:
    """Write the sources of a wheel without its tests, and its licence beside them; its metadata names the tools that made it."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            package = ".dist-info/" not in name and name.endswith(".py") and not name.rpartition("/")[2].startswith("test_")
            licence = ".dist-info/" in name and name.rpartition("/")[2].startswith("LICEN")
            if not package and not licence:
                continue
            path = target / (name if package else f"{wheel.name.split('-')[0]}.LICENSE")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o100644 << 16
    entry.create_system = 3
    return entry


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def main(arguments: list[str]) -> int:
    if arguments == ["vendor"]:
        vendor()
    elif arguments[:1] == ["build"] and len(arguments) == 2:
        archive = build()
        Path(arguments[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments[1]).write_bytes(archive)
        print(digest(archive))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
