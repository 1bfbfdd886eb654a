"""The image that the cases begin with: busybox, some users, and what an image may hold that is easily lost."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

NAME = "base:latest"
ENVIRONMENT = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DIRECTORIES = {
    "": 0o755, "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "home/app": 0o750, "opt": 0o755, "opt/real": 0o755, "proc": 0o755,
    "root": 0o700, "run": 0o755, "srv": 0o755, "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "var": 0o755,
}  # fmt: skip
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nwww:x:33:33:www:/srv:/bin/sh\n",
    "etc/group": "root:x:0:\napp:x:1000:\nwww:x:33:\nstaff:x:50:app\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n",
    "etc/hostname": "base\n",
    "etc/resolv.conf": "",
    "opt/real/old": "old\n",
}
LINKS = {"opt/link": "real", "opt/absolute": "/opt/real", "opt/dangling": "nowhere", "opt/escape": "../../../../../opt/real"}
OWNERS = {"home/app": 1000}
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # cap_net_bind_service=ep


def write(archive: Path) -> None:
    """As `docker save` writes it; the same bytes whenever the same busybox is there."""
    layer = _layer()
    config = json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [ENVIRONMENT], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "base"}, {"created_by": 'CMD ["/bin/sh"]', "empty_layer": True}],
    }).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for path, content in (("manifest.json", manifest), (name, config), ("layer.tar", layer)):
            _add(tar, path, content=content)


def _layer() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, mode in DIRECTORIES.items():
            _add(tar, path or "./", kind=tarfile.DIRTYPE, mode=mode, owner=OWNERS.get(path, 0))
        busybox = Path("/bin/busybox").read_bytes()
        _add(tar, "bin/busybox", content=busybox, mode=0o755)
        for applet in sorted(_applets()):
            _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        for path, text in FILES.items():
            _add(tar, path, content=text.encode())
        for path, target in LINKS.items():
            _add(tar, path, kind=tarfile.SYMTYPE, link=target)
        capable = {"SCHILY.xattr.security.capability": CAPABILITY.decode()}
        _add(tar, "usr/bin/capable", content=b"capable", mode=0o755, headers=capable)
        _add(tar, "usr/bin/setuid", content=b"setuid", mode=0o4755)
        _add(tar, "opt/one", content=b"one file\n")
        _add(tar, "opt/two", kind=tarfile.LNKTYPE, link="opt/one")
    return made.getvalue()


def _applets() -> set[str]:
    return set(subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()) - {"busybox"}


def _add(
    tar: tarfile.TarFile, path: str, *, content: bytes = b"", kind: bytes = tarfile.REGTYPE, mode: int = 0o644, owner: int = 0,
    link: str = "", headers: dict[str, str] | None = None,
) -> None:  # fmt: skip
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, entry.size = kind, mode, owner, owner, link, len(content)
    entry.mtime, entry.pax_headers = 1_000_000_000, headers or {}
    tar.addfile(entry, io.BytesIO(content))
