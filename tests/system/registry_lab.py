"""Real registries for tests: docker-registry as Debian has it, a token server, and a front that misbehaves on demand."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

RUNTIME = str(Path(__file__).parents[2] / "runtime")
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


class Image(NamedTuple):
    """What was pushed: digests as text, and the layers' plain archives."""

    manifest: str
    config: str
    layers: tuple[str, ...]
    sizes: tuple[int, ...]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def registry(directory: Path, *, name: str = "registry", auth: str = "", tls: str = "") -> Iterator[str]:
    """docker-registry on a free loopback port, its storage in `directory`; gives HOST:PORT."""
    port = free_port()
    config = directory / f"{name}.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage:\n  filesystem: {{rootdirectory: {directory}/storage}}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n  secret: x\n{tls}{auth}"
    )
    with open(directory / f"{name}.log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (directory / f"{name}.log").read_text()
            time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def send(host: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def push_blob(host: str, repository: str, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    status, headers, _ = send(host, "POST", f"/v2/{repository}/blobs/uploads/")
    assert status == 202, status
    location = urlsplit(headers["location"])
    path = f"{location.path}?{location.query}&digest={digest}"
    assert send(host, "PUT", path, data, {"Content-Type": "application/octet-stream"})[0] == 201
    return digest


def push_manifest(host: str, repository: str, name: str, document: Mapping[str, Any]) -> str:
    data = json.dumps(document).encode()
    status, headers, body = send(host, "PUT", f"/v2/{repository}/manifests/{name}", data, {"Content-Type": document["mediaType"]})
    assert status == 201, body
    return headers["docker-content-digest"]


def push_image(
    host: str, repository: str, tag: str, layers: list[bytes], *, docker: bool = False, config: Mapping[str, Any] = {}
) -> Image:
    """Push an image with these plain archives as gzipped layers, in OCI's or in Docker's media types."""
    manifest_type = f"{DOCKER}.distribution.manifest.v2+json" if docker else f"{OCI}.manifest.v1+json"
    config_type = f"{DOCKER}.container.image.v1+json" if docker else f"{OCI}.config.v1+json"
    layer_type = f"{DOCKER}.image.rootfs.diff.tar.gzip" if docker else f"{OCI}.layer.v1.tar+gzip"
    packed = [gzip.compress(each, 1, mtime=0) for each in layers]
    diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
    text = json.dumps({"os": "linux", "architecture": machine, "config": {"Cmd": ["sh"]}, "rootfs": rootfs, **config}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {"mediaType": config_type, "digest": push_blob(host, repository, text), "size": len(text)},
        "layers": [{"mediaType": layer_type, "digest": push_blob(host, repository, each), "size": len(each)} for each in packed],
    }
    manifest = push_manifest(host, repository, tag, document)
    return Image(manifest, document["config"]["digest"], tuple(diff_ids), tuple(map(len, packed)))  # type: ignore[index]


PULL = """
import json, os, sys
from bayplan.engine import pull
from bayplan.errors import BayplanError
from bayplan.model.reference import parse_reference
from bayplan.registry.http import Settings
from bayplan.store.root import StateRoot
ask = json.loads(sys.argv[1])
environment = {**ask["environment"], "PATH": os.environ["PATH"]}
settings = Settings(environment, tuple(ask["certificates"]), ask["registries_conf"], attempts=4, first_pause=0.02)
try:
    reference = parse_reference(ask["reference"])
    if ask["verb"] == "head":
        answer = {"digest": str(pull.head_digest(reference, auth=ask["auth"], insecure=ask["insecure"], settings=settings))}
    elif ask["verb"] == "resolve":
        found = pull.resolve(reference, platform=ask["platform"], auth=ask["auth"], insecure=ask["insecure"], settings=settings)
        answer = {"digest": str(found.digest), "config": str(found.manifest.config.digest)}
    else:
        found = pull.pull(reference, root=StateRoot(ask["root"]), platform=ask["platform"], auth=ask["auth"],
                          insecure=ask["insecure"], settings=settings)
        answer = {"digest": str(found.manifest_digest), "config": str(found.image_id), "repo_digest": found.repo_digest,
                  "layers": [str(each) for each in found.layers], "size": found.size, "blobs": [str(each) for each in found.blobs]}
except BayplanError as error:
    answer = {"error": error.kind, "message": str(error)}
print(json.dumps(answer))
"""


def pull(
    reference: str,
    root: str,
    *,
    verb: str = "pull",
    platform: str = "",
    auth: Mapping[str, str] | None = None,
    insecure: bool = False,
    environment: Mapping[str, str] = {},
    certificates: tuple[str, ...] = (),
    registries_conf: str = "/nonexistent",
) -> dict[str, Any]:
    """Pull in a process of its own, as a user's call does: what came of it, or its error."""
    ask = {
        "verb": verb,
        "reference": reference,
        "root": root,
        "platform": platform,
        "auth": auth,
        "insecure": insecure,
        "environment": {"HOME": "/nonexistent", **environment},
        "certificates": certificates,
        "registries_conf": registries_conf,
    }
    command = [sys.executable, "-W", "error", "-c", PULL, json.dumps(ask)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": RUNTIME}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Asked(NamedTuple):
    """`size` is how many bytes the request's body has."""

    method: str
    path: str
    headers: Mapping[str, str]
    size: int = 0


Fault = Callable[["Handler"], bool]


class Handler(BaseHTTPRequestHandler):
    """Relays to the registry, unless one of the front's faults has answered."""

    protocol_version = "HTTP/1.1"
    server: Front
    is_taken = False

    def relay(self, *, limit: int | None = None, change: Callable[[bytes], bytes] | None = None) -> None:
        """Ask the registry and pass its answer on: at most `limit` bytes of the body, then the connection breaks.

        The registry is told the name that it was asked by, so that the addresses it gives lead through here again.
        """
        parts = urlsplit(self.path)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("connection", "content-length")}
        status, answer, body = send(self.server.behind, self.command, path, self.taken(), headers)
        body = change(body) if change else body
        self.answer(status, answer, body, limit=limit)

    def size(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def taken(self) -> bytes:
        """The request's body."""
        self.is_taken = True
        return self.rfile.read(self.size())

    def break_off(self, count: int) -> None:
        """Pass on `count` bytes of the request's body, then break both connections."""
        host, _, port = self.server.behind.partition(":")
        with socket.create_connection((host, int(port))) as there:
            there.sendall(f"{self.command} {self.path} HTTP/1.1\r\n{self.headers}".encode() + self.rfile.read(count))
            time.sleep(0.1)
        self.close_connection = True

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"", *, limit: int | None = None) -> None:
        if self.size() and not self.is_taken:
            self.close_connection = True  # the body is still to come, and would be read as a request
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() not in ("date", "server", "connection"):
                self.send_header(key, value)
        if "content-length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if limit is None else body[:limit])
        if limit is not None and limit < len(body):
            self.wfile.flush()
            self.close_connection = True

    def handle_any(self) -> None:
        self.is_taken = False
        with self.server.lock:
            headers = {key.lower(): value for key, value in self.headers.items()}
            self.server.asked.append(Asked(self.command, self.path, headers, self.size()))
        if not any(fault(self) for fault in self.server.faults):
            self.relay()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def do_CONNECT(self) -> None:
        """A proxy's tunnel; whatever name is asked for is the registry behind."""
        with self.server.lock:
            self.server.asked.append(Asked("CONNECT", self.path, {key.lower(): value for key, value in self.headers.items()}))
        host, _, port = self.server.behind.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            relays = [threading.Thread(target=copy, args=pair) for pair in ((self.connection, there), (there, self.connection))]
            for each in relays:
                each.start()
            for each in relays:
                each.join()
        self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        return


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Front(ThreadingHTTPServer):
    """An HTTP server before a registry; remembers what it was asked."""

    daemon_threads = False  # closing waits for them: none runs beside the tests that follow

    def __init__(self, behind: str, *faults: Fault) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.faults = faults
        self.asked: list[Asked] = []
        self.lock = threading.Lock()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # clients that go away are what these tests are about


@contextlib.contextmanager
def front(behind: str, *faults: Fault) -> Iterator[Front]:
    server = Front(behind, *faults)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def make_authority(directory: Path, name: str = "ca") -> None:
    subject = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
    openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", *subject)


def make_certificate(directory: Path, name: str, alternatives: str, *, authority: str = "ca") -> None:
    """NAME.key and NAME.crt, signed by the authority."""
    subject = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"]
    openssl(directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject)
    (directory / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
    signer = ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial"]
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signer, "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt")


class TokenServer:
    """Docker's token authentication for real: signed tokens that docker-registry verifies (RS256 with x5c)."""

    def __init__(self, directory: Path, users: Mapping[str, str]) -> None:
        self.directory = directory
        self.users = users
        subject = ["-subj", "/CN=tokens", "-keyout", "token.key", "-out", "token.crt"]
        openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", *subject)

    def registry_auth(self, realm: str) -> str:
        settings = f"{{realm: '{realm}', service: test, issuer: tokens, rootcertbundle: {self.directory}/token.crt}}"
        return f"auth:\n  token: {settings}\n"

    def __call__(self, handler: Handler) -> bool:
        parts = urlsplit(handler.path)
        if parts.path != "/token":
            return False
        query = parse_qs(parts.query)
        scheme, _, pair = (handler.headers.get("Authorization") or "").partition(" ")
        user, _, password = base64.b64decode(pair).decode().partition(":")
        if scheme != "Basic" or self.users.get(user) != password:
            handler.answer(401, {}, b'{"errors":[{"message":"who are you?"}]}')
            return True
        wanted = [scope.split(":") for scope in query.get("scope", [])]
        access = [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in wanted]
        allowed = [{**each, "actions": [action for action in each["actions"] if self.may(user, each["name"], action)]} for each in access]
        handler.answer(200, {}, json.dumps({"token": self.sign(allowed)}).encode())
        return True

    def may(self, user: str, name: str, action: str) -> bool:
        """Everybody may do everything, but `reader` only pull."""
        return user != "reader" or action == "pull"

    def sign(self, access: list[dict[str, Any]]) -> str:
        lines = (self.directory / "token.crt").read_text().splitlines()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(line for line in lines if not line.startswith("-"))]}
        now = int(time.time())
        claims = {"iss": "tokens", "sub": "x", "aud": "test", "exp": now + 300, "nbf": now - 9, "iat": now, "jti": "1", "access": access}
        signed = b".".join(unpadded(json.dumps(each).encode()) for each in (header, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", f"{self.directory}/token.key"]
        signature = subprocess.run(command, input=signed, capture_output=True, check=True).stdout
        return b".".join((signed, unpadded(signature))).decode()


def unpadded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
