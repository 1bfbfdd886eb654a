"""Puts the collection together as a real tree: an archive of Galaxy skips links that lead outside it.

python runtime/collection.py stage DIRECTORY     DIRECTORY/ansible_collections/bayplan/containers
python runtime/collection.py build DIRECTORY     the Galaxy tarball in DIRECTORY
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import archive

PROJECT = Path(__file__).resolve().parent.parent
PLACE = Path("ansible_collections/bayplan/containers")


def stage(directory: Path) -> Path:
    """Copy everything that the collection consists of, the runtime's archive included; returns the collection's directory."""
    target = directory / PLACE
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "output")
    shutil.copytree(PROJECT / "collection", target, ignore=ignored)  # roles and playbooks are links, which it follows
    shutil.copytree(PROJECT / "LICENSES", target / "LICENSES")
    shutil.copy(PROJECT / "CHANGELOG.md", target / "CHANGELOG.md")
    content = archive.build()
    (target / "files").mkdir(exist_ok=True)
    (target / "files" / "bayplan.zip").write_bytes(content)
    (target / "files" / "bayplan.zip.sha256").write_text(f"{archive.digest(content)}  bayplan.zip\n")
    return target


def build(directory: Path) -> Path:
    """The Galaxy tarball, made from a staged tree; returns its path. Raises CalledProcessError where ansible-galaxy refuses."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        staged = stage(Path(scratch))
        galaxy = str(Path(sys.executable).parent / "ansible-galaxy")
        command = [galaxy, "collection", "build", "--force", "--output-path", str(directory.absolute()), str(staged)]
        subprocess.run(command, check=True, capture_output=True)
    return max(directory.glob("bayplan-containers-*.tar.gz"), key=lambda path: path.stat().st_mtime)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ("stage", "build"):
        print(__doc__, file=sys.stderr)
        return 2
    print(stage(Path(arguments[1])) if arguments[0] == "stage" else build(Path(arguments[1])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
