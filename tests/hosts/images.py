"""A registry server on this machine, and small images made from Debian's busybox-static pushed to it.

python tests/hosts/images.py up DIRECTORY ADDRESS:PORT      start docker-registry, push busybox:1 and web:1, web:2
python tests/hosts/images.py down DIRECTORY
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disposable import spawn

APPLETS = ("sh", "true", "false", "sleep", "httpd", "wget", "cat", "echo", "ls", "ps", "ip", "id", "hostname", "nslookup",
           "nc", "ping", "kill", "touch", "mount", "env", "mkdir", "rm", "grep", "date", "seq", "dd", "sync", "stat", "tail")  # fmt: skip
REGISTRY_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {directory}/storage}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""
WEB = ("sh", "-c", 'mkdir -p /www; echo "$GREETING from $(hostname)" > /www/index.html; exec httpd -f -p 80 -h /www')


def start_registry(directory: Path, address: str) -> int:
    """Start docker-registry on `address`, its storage in `directory`; returns its pid when it answers."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yml").write_text(REGISTRY_CONFIG.format(directory=directory.absolute(), address=address))
    command = ["docker-registry", "serve", str(directory / "config.yml")]
    pid = spawn(command, log=directory / "registry.log", environment={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"})
    (directory / "registry.pid").write_text(str(pid))
    for _ in range(2000):
        if os.waitpid(pid, os.WNOHANG)[0]:  # another server may answer at that address
            break
        with contextlib.suppress(OSError):
            if _ask(address, "GET", "/v2/")[0] == 200:
                return pid
        time.sleep(0.05)
    raise RuntimeError(f"docker-registry does not answer on {address}: {(directory / 'registry.log').read_text()}")


def stop_registry(directory: Path) -> None:
    """End the registry server of `directory` and remove the directory."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / "registry.pid").read_text())
        if str(directory.absolute()).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    shutil.rmtree(directory, ignore_errors=True)


def busybox_layer(files: Mapping[str, str] | None = None) -> bytes:
    """An uncompressed layer with busybox, its applets as links, the usual directories, and `files` (path to text)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("var", 0o755), ("www", 0o755)):
            _add(archive, name, kind=tarfile.DIRTYPE, mode=mode)
        busybox = shutil.which("busybox")
        assert busybox, "busybox-static is not installed"
        _add(archive, "bin/busybox", content=Path(busybox).read_bytes(), mode=0o755)
        for applet in APPLETS:
            _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(archive, "etc/passwd", content=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _add(archive, "etc/group", content=b"root:x:0:\nnobody:x:65534:\n")
        for path, text in (files or {}).items():
            _add(archive, path, content=text.encode())
    return buffer.getvalue()


def image_blobs(layers: list[bytes], **settings: Any) -> tuple[bytes, list[bytes]]:
    """An OCI manifest and the blobs it names (config first); `settings` are the config's Cmd, Env, Labels and the like."""
    config = {
        "created": "2026-01-01T00:00:00Z",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], **settings},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
    }
    blobs = [json.dumps(config).encode(), *(gzip.compress(layer, 6, mtime=0) for layer in layers)]
    kinds = ["config.v1+json"] + ["layer.v1.tar+gzip"] * len(layers)
    entries = [
        {"mediaType": f"application/vnd.oci.image.{kind}", "digest": _digest(blob), "size": len(blob)} for kind, blob in zip(kinds, blobs)
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": entries[0],
        "layers": entries[1:],
    }
    return json.dumps(manifest).encode(), blobs


def push(address: str, name: str, tag: str, *, layers: list[bytes] | None = None, **settings: Any) -> str:
    """Push an image to the registry at `address`; returns its reference there."""
    manifest, blobs = image_blobs(layers if layers is not None else [busybox_layer()], **settings)
    for blob in blobs:
        if _ask(address, "HEAD", f"/v2/{name}/blobs/{_digest(blob)}")[0] == 200:
            continue
        status, headers = _ask(address, "POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, f"the registry refused an upload: {status}"
        location = headers["location"].split(address, 1)[-1]
        joint = "&" if "?" in location else "?"
        status, _ = _ask(address, "PUT", f"{location}{joint}digest={_digest(blob)}", blob)
        assert status == 201, f"the registry refused a blob: {status}"
    kind = json.loads(manifest)["mediaType"]
    status, _ = _ask(address, "PUT", f"/v2/{name}/manifests/{tag}", manifest, kind)
    assert status == 201, f"the registry refused a manifest: {status}"
    return f"{address}/{name}:{tag}"


def save(path: Path, reference: str, *, layers: list[bytes] | None = None, **settings: Any) -> Path:
    """Write an image as a docker-archive that holds `reference`, as `docker save` does."""
    layers = layers if layers is not None else [busybox_layer()]
    _, (config, *_rest) = image_blobs(layers, **settings)
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    names = [f"{hashlib.sha256(layer).hexdigest()}/layer.tar" for layer in layers]
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        for name, content in [(config_name, config), *zip(names, layers), ("manifest.json", json.dumps(manifest).encode())]:
            _add(archive, name, content=content)
    return path


def push_demo_images(address: str) -> None:
    """busybox, and two web servers. As a first process busybox's httpd hears no SIGTERM: stopping it politely takes ten seconds."""
    server: dict[str, Any] = {"Cmd": list(WEB), "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGKILL"}
    push(address, "busybox", "1", Cmd=["sh"])
    push(address, "web", "1", Env=["PATH=/bin", "GREETING=hello"], **server)
    push(address, "web", "2", Env=["PATH=/bin", "GREETING=good day"], **server)


def _add(archive: tarfile.TarFile, name: str, *, content: bytes = b"", kind: bytes = tarfile.REGTYPE,
         mode: int = 0o644, link: str = "") -> None:  # fmt: skip
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(content)
    archive.addfile(entry, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _ask(address: str, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body=body or None, headers={"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["down"] and len(arguments) == 2:
        stop_registry(Path(arguments[1]))
        return 0
    if arguments[:1] != ["up"] or len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    with contextlib.suppress(OSError):
        if _ask(arguments[2], "GET", "/v2/")[0] == 200:
            return 0
    start_registry(Path(arguments[1]), arguments[2])
    push_demo_images(arguments[2])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
