"""Make a large image from this machine's own /usr and push it to a registry: for measuring pulls.

    python tests/bench/large_image.py REGISTRY/REPOSITORY:TAG

Five layers, some 50,000 files, over 300 MB compressed. Needs nothing but Python; the registry speaks plain HTTP.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit

FILES = int(os.environ.get("LARGE_IMAGE_FILES", "52000"))
SMALL_LAYERS = 4
LARGE_BYTES = FILES * 10_500


class Layer(NamedTuple):
    path: str
    diff_id: str
    digest: str
    size: int


def small_files() -> list[str]:
    """The first 52,000 files of /usr/share and then of all /usr, none over a megabyte."""
    found: list[str] = []
    for top in ("/usr/share", "/usr/include", "/usr/lib"):
        for directory, below, files in os.walk(top):
            below.sort()
            for name in sorted(files):
                path = os.path.join(directory, name)
                if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < 1 << 20:
                    found.append(path)
                if len(found) == FILES:
                    return found
    return found


def large_files() -> list[str]:
    """Files of over a megabyte from /usr/lib and /usr/bin, half a gigabyte in all."""
    found, total = [], 0
    for top in ("/usr/lib", "/usr/bin"):
        for directory, below, files in os.walk(top):
            below.sort()
            for name in sorted(files):
                path = os.path.join(directory, name)
                if not os.path.islink(path) and os.path.isfile(path) and 1 << 20 <= os.path.getsize(path) < 64 << 20:
                    found.append(path)
                    total += os.path.getsize(path)
                if total >= LARGE_BYTES:
                    return found
    return found


def make_layer(target: str, files: list[str]) -> Layer:
    with open(target + ".tar", "wb+") as plain:
        with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            made: set[str] = set()
            for path in files:
                for parent in parents(path):
                    if parent not in made:
                        made.add(parent)
                        archive.add(parent, arcname=parent.lstrip("/"), recursive=False)
                archive.add(path, arcname=path.lstrip("/"), recursive=False)
        plain.seek(0)
        diff_id = hashlib.file_digest(plain, "sha256").hexdigest()
        plain.seek(0)
        with open(target, "wb") as file, gzip.GzipFile("", "wb", 6, file, 0) as compressed:
            while chunk := plain.read(1 << 20):
                compressed.write(chunk)
    os.unlink(target + ".tar")
    with open(target, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Layer(target, f"sha256:{diff_id}", f"sha256:{digest}", os.path.getsize(target))


def parents(path: str) -> list[str]:
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def push(registry: str, repository: str, tag: str, layers: list[Layer]) -> None:
    config = json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    for layer in layers:
        with open(layer.path, "rb") as file:
            push_blob(registry, repository, layer.digest, file.read())
    push_blob(registry, repository, config_digest, config)
    docker = "application/vnd.docker"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{docker}.distribution.manifest.v2+json",
        "config": {"mediaType": f"{docker}.container.image.v1+json", "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": f"{docker}.image.rootfs.diff.tar.gzip", "digest": layer.digest, "size": layer.size} for layer in layers],
    }
    connection = http.client.HTTPConnection(registry)
    path = f"/v2/{repository}/manifests/{tag}"
    connection.request("PUT", path, json.dumps(manifest), {"Content-Type": f"{docker}.distribution.manifest.v2+json"})
    check(connection.getresponse(), 201)


def push_blob(registry: str, repository: str, digest: str, data: bytes) -> None:
    connection = http.client.HTTPConnection(registry)
    connection.request("POST", f"/v2/{repository}/blobs/uploads/")
    location = urlsplit(check(connection.getresponse(), 202) or "")
    separator = "&" if location.query else ""
    path = f"{location.path}?{location.query}{separator}digest={digest}"
    connection.request("PUT", path, data, {"Content-Type": "application/octet-stream"})
    check(connection.getresponse(), 201)


def check(answer: http.client.HTTPResponse, wanted: int) -> str | None:
    text = answer.read()
    if answer.status != wanted:
        raise SystemExit(f"the registry answered {answer.status}: {text[:200]!r}")
    return answer.headers["Location"]


def main(name: str) -> None:
    registry, _, rest = name.partition("/")
    repository, _, tag = rest.partition(":")
    small = small_files()
    share = -(-len(small) // SMALL_LAYERS)
    parts = [large_files(), *(small[at : at + share] for at in range(0, len(small), share))]
    with tempfile.TemporaryDirectory() as directory, ProcessPoolExecutor(os.cpu_count()) as pool:
        targets = [f"{directory}/{number}" for number in range(len(parts))]
        layers = list(pool.map(make_layer, targets, parts))
        push(registry, repository, tag or "latest", layers)
    print(f"{name}: {len(layers)} layers, {len(small)} files and more, {sum(each.size for each in layers) / 1e6:.0f} MB compressed")


if __name__ == "__main__":
    main(sys.argv[1])
