# SPDX-License-Identifier: Apache-2.0
"""Makes the images of the virtual machine's stack, as archives that travel there from the controller.

    python tests/vm/archives.py DIRECTORY     writes DIRECTORY/web.tar (web:1) and DIRECTORY/database.tar (database:7)

The web server is busybox's, the database is Debian's redis with the libraries that it depends on.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hosts"))
import images

REDIS = 999  # no Debian package has this id fixed, the official image uses it too
SUITE = "bookworm"
LOADER = "/lib64/ld-linux-x86-64.so.2"
PROGRAMS = ("/usr/bin/redis-check-rdb", "/usr/bin/redis-cli", "/bin/busybox")


def redis_layer() -> bytes:
    """The programs and exactly the libraries that they load: an emulated machine hashes only some megabytes a second.

    The rest is what a maintainer's scripts set up: the user, and a place for its data.
    """
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--include=redis-tools,busybox-static",
                   "--aptopt=APT::Install-Recommends \"false\"", SUITE, directory]  # fmt: skip
        subprocess.run(command, check=True)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in (LOADER, *PROGRAMS, *libraries(root, PROGRAMS)):
                archive.add((root / path.lstrip("/")).resolve(), path.lstrip("/"))
            for path, target in (("bin/sh", "busybox"), ("usr/bin/redis-server", "redis-check-rdb")):
                add(archive, path, kind=tarfile.SYMTYPE, target=target)
            add(archive, "etc/passwd", text=f"root:x:0:0:root:/root:/bin/sh\nredis:x:{REDIS}:{REDIS}::/data:/bin/false\n")
            add(archive, "etc/group", text=f"root:x:0:\nredis:x:{REDIS}:\n")
            add(archive, "tmp", kind=tarfile.DIRTYPE, mode=0o1777)
            add(archive, "data", kind=tarfile.DIRTYPE, mode=0o700, owner=REDIS)
        return buffer.getvalue()


def libraries(root: Path, programs: tuple[str, ...]) -> list[str]:
    """Paths of what the dynamic loader loads for the programs, as it prints them: `NAME => PATH (ADDRESS)`."""
    found: dict[str, None] = {}
    for program in programs[:-1]:  # busybox is static
        command = ["chroot", str(root), LOADER, "--list", program]
        for line in subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines():
            _, arrow, rest = line.partition(" => ")
            if arrow:
                found[rest.split(" (")[0]] = None
    return list(found)


def add(archive: tarfile.TarFile, path: str, *, text: str = "", kind: bytes = tarfile.REGTYPE, mode: int = 0o644,
        target: str = "", owner: int = 0) -> None:  # fmt: skip
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.linkname, entry.size, entry.uid, entry.gid = kind, mode, target, len(text), owner, owner
    archive.addfile(entry, io.BytesIO(text.encode()))


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    images.save(directory / "web.tar", "web:1", Cmd=list(images.WEB), Env=["PATH=/bin", "GREETING=hello"],
                ExposedPorts={"80/tcp": {}})  # fmt: skip
    images.save(
        directory / "database.tar",
        "database:7",
        layers=[redis_layer()],
        User="redis",
        Env=["PATH=/usr/bin:/bin"],
        Entrypoint=["redis-server", "--dir", "/data", "--bind", "0.0.0.0", "--protected-mode", "no"],
        Volumes={"/data": {}},
        WorkingDir="/data",
        ExposedPorts={"6379/tcp": {}},
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
