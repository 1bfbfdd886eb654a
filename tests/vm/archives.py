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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hosts"))
import images  # noqa: E402 - it lies beside, in another directory of the tests

REDIS = 999  # no Debian package has this id fixed, the official image uses it too
SUITE = "bookworm"


def debian_layer(*packages: str) -> bytes:
    """A root file system with `packages` and all that they depend on, unpacked but not configured."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={','.join(packages)}",
               "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
               "--aptopt=APT::Install-Recommends \"false\"", SUITE, "-"]  # fmt: skip
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def redis_layer() -> bytes:
    """The server's name (one program does all), and what a maintainer's scripts set up: the user, a place for its data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        files = {
            "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nredis:x:{REDIS}:{REDIS}::/data:/bin/false\n",
            "etc/group": f"root:x:0:\nredis:x:{REDIS}:\n",
        }
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        for link, target in (("bin/sh", "busybox"), ("usr/bin/redis-server", "redis-check-rdb")):
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        data = tarfile.TarInfo("data")
        data.type, data.mode, data.uid, data.gid = tarfile.DIRTYPE, 0o700, REDIS, REDIS
        archive.addfile(data)
    return buffer.getvalue()


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
        layers=[debian_layer("redis-tools", "busybox-static"), redis_layer()],
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
