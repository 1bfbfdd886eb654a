"""Pulls from real registries, over real connections, good and bad ones."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from layer_lab import archive, directory, entry, overlay
from registry_lab import (
    OCI,
    RUNTIME,
    Fault,
    Handler,
    Image,
    TokenServer,
    front,
    make_authority,
    make_certificate,
    pull,
    push_image,
    push_manifest,
    registry,
)

from bayplan.model.digest import parse_digest
from bayplan.store import blobs, layers
from bayplan.store.root import StateRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking layers needs root")

NOISE = os.urandom(3_000_000)
LAYERS = [
    archive([directory("tmp", mode=0o1777), entry("a", b"1"), entry("big", NOISE)]),
    archive([entry(".wh.a"), entry("b", b"2")]),
    archive([entry("tmp/x", b"3")]),
]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def server(storage: Path) -> Iterator[str]:
    with registry(storage) as name:
        yield name


@pytest.fixture(scope="module")
def image(server: str) -> Image:
    return push_image(server, "team/app", "1", LAYERS)


@pytest.fixture
def root(tmp_path: Path) -> StateRoot:
    return StateRoot(str(tmp_path / "state"))


def check(root: StateRoot, image: Image, answer: dict[str, Any]) -> None:
    assert answer.get("config") == image.config, answer
    assert answer["layers"] == list(image.layers)
    found = overlay(root, [parse_digest(each) for each in image.layers])
    assert sorted(found) == ["b", "big", "tmp", "tmp/x"] and found["tmp"][0] == "0o41777"
    assert os.listdir(root.staging) == [], "nothing stays in staging"


def check_nothing_left(root: StateRoot) -> None:
    assert layers.listed(root) == () and blobs.listed(root) == () and os.listdir(root.staging) == [], "nothing is left"


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_an_image_is_pulled_and_unpacked(server: str, root: StateRoot, docker: bool) -> None:
    image = push_image(server, "kinds", f"v{docker:d}", LAYERS, docker=docker)
    answer = pull(f"{server}/kinds:v{docker:d}", root.path)
    check(root, image, answer)
    assert answer["digest"] == image.manifest and answer["repo_digest"] == f"{server}/kinds@{image.manifest}"
    assert answer["size"] == sum(map(len, LAYERS)), "the size is that of the plain archives"
    kept = {str(each) for each in blobs.listed(root)}
    assert kept == set(answer["blobs"]) and len(kept) == 5, "manifest, config and layers are kept as they came"


def test_a_digest_pins_the_image(server: str, image: Image, root: StateRoot) -> None:
    assert pull(f"{server}/team/app:other@{image.manifest}", root.path)["config"] == image.config
    assert pull(f"{server}/team/app@sha256:{'0' * 64}", root.path)["error"] == "not_found"


def test_a_second_pull_fetches_no_layer_again(server: str, image: Image, root: StateRoot) -> None:
    with front(server) as before:
        pull(f"{before.name}/team/app:1", root.path)
        before.asked.clear()
        check(root, image, pull(f"{before.name}/team/app:1", root.path))
        paths = [each.path.rpartition("/")[2] for each in before.asked]
    assert sorted(paths) == sorted(["", "1", image.config]), "only the manifest and the config were asked for"


def test_a_check_writes_nothing(server: str, image: Image, root: StateRoot) -> None:
    assert pull(f"{server}/team/app:1", root.path, verb="resolve") == {"digest": image.manifest, "config": image.config}
    assert pull(f"{server}/team/app:1", root.path, verb="head") == {"digest": image.manifest}
    assert not root.exists(), "not even the state's directory is made"


def test_an_index_is_resolved_for_this_or_another_platform(server: str, root: StateRoot) -> None:
    here = push_image(server, "multi", "here", LAYERS)
    other = push_image(server, "multi", "other", LAYERS[:1], config={"architecture": "s390x"})
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    entries = [
        {"mediaType": f"{OCI}.manifest.v1+json", "digest": each.manifest, "size": size, "platform": {"os": "linux", "architecture": name}}
        for each, name, size in ((other, "s390x", manifest_size(server, other)), (here, machine, manifest_size(server, here)))
    ]
    index = push_manifest(server, "multi", "all", {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})
    answer = pull(f"{server}/multi:all", root.path)
    check(root, here, answer)
    assert answer["digest"] == index and index in answer["blobs"], "the index's digest is the image's digest to the world"
    assert pull(f"{server}/multi:all", root.path, platform="linux/s390x")["config"] == other.config
    missing = pull(f"{server}/multi:all", root.path, platform="linux/ppc64le")
    assert missing["error"] == "invalid" and "linux/s390x" in missing["message"], "the error says what is there"


def manifest_size(server: str, image: Image) -> int:
    from registry_lab import send

    return len(send(server, "GET", f"/v2/multi/manifests/{image.manifest}", headers={"Accept": f"{OCI}.manifest.v1+json"})[2])


def test_errors_are_clear(server: str, image: Image, root: StateRoot) -> None:
    assert pull(f"{server}/team/app:none", root.path)["error"] == "not_found"
    assert pull(f"{server}/nobody/none:1", root.path)["error"] == "not_found"
    refused = pull("127.0.0.1:1/x:1", root.path)
    assert refused["error"] == "unavailable" and "127.0.0.1:1" in refused["message"]
    unknown = pull("no-such-host.invalid/x:1", root.path)
    assert unknown["error"] == "unavailable" and "no-such-host.invalid" in unknown["message"]


def blob_of(handler: Handler) -> bool:
    return handler.command == "GET" and "/blobs/" in handler.path


def once(fault: Fault, times: int = 1) -> Fault:
    """The fault, for the first few requests that it would answer."""
    lock, done = threading.Lock(), [0]

    def limited(handler: Handler) -> bool:
        with lock:
            if done[0] >= times or not (blob_of(handler) or "/manifests/" in handler.path):
                return False
            done[0] += 1
        return fault(handler)

    return limited


def cut(handler: Handler) -> bool:
    handler.relay(limit=100)
    return True


def silent(handler: Handler) -> bool:
    handler.close_connection = True
    return True


def status(number: int, **headers: str) -> Fault:
    def answer(handler: Handler) -> bool:
        handler.answer(number, headers)
        return True

    return answer


FAULTS = {
    "one 503": once(status(503)),
    "three 503 in a row": once(status(503), 3),
    "429 with Retry-After": once(status(429, **{"Retry-After": "0"}), 2),
    "a broken answer": once(cut, 3),
    "no answer": once(silent, 3),
    "a gateway's 502": once(status(502), 2),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_does_not_stop_a_pull(server: str, image: Image, root: StateRoot, name: str) -> None:
    with front(server, FAULTS[name]) as before:
        check(root, image, pull(f"{before.name}/team/app:1", root.path))


def test_a_layer_goes_on_from_the_byte_where_it_broke(server: str, image: Image, root: StateRoot) -> None:
    def cut_large(handler: Handler) -> bool:
        if not blob_of(handler):
            return False
        handler.relay(limit=1_000_000)
        return True

    with front(server, cut_large) as before:
        check(root, image, pull(f"{before.name}/team/app:1", root.path))
        ranges = [each.headers["range"] for each in before.asked if "range" in each.headers]
    assert ranges == ["bytes=1000000-", "bytes=2000000-", "bytes=3000000-"], "every byte is fetched once"


def test_a_registry_without_ranges_begins_again_and_the_layer_is_right(server: str, image: Image, root: StateRoot) -> None:
    seen: list[str] = []

    def no_ranges(handler: Handler) -> bool:
        if not blob_of(handler):
            return False
        first = handler.path not in seen
        seen.append(handler.path)
        del handler.headers["Range"]
        handler.relay(limit=1_000_000 if first else None)
        return True

    with front(server, no_ranges) as before:
        check(root, image, pull(f"{before.name}/team/app:1", root.path))


def blob_changed(change: Callable[[bytes], bytes]) -> Fault:
    return lambda handler: blob_of(handler) and handler.relay(change=change) is None


def manifest_changed(handler: Handler) -> bool:
    return "/manifests/" in handler.path and handler.relay(change=lambda body: body.replace(b"size", b"sizf")) is None


LASTING: dict[str, tuple[Fault, str]] = {
    "always 503": (lambda handler: blob_of(handler) and status(503)(handler), "unavailable"),
    "always broken at once": (lambda handler: blob_of(handler) and handler.relay(limit=0) is None, "unavailable"),
    "a changed byte": (blob_changed(lambda body: body[:-9] + bytes([body[-9] ^ 1]) + body[-8:]), "invalid"),
    "another blob": (blob_changed(lambda body: os.urandom(len(body))), "invalid"),
    "forbidden": (lambda handler: blob_of(handler) and status(403)(handler), "denied"),
    "gone": (lambda handler: blob_of(handler) and status(404)(handler), "not_found"),
    "another manifest": (manifest_changed, "invalid"),
    "an endless manifest": (lambda handler: "/manifests/" in handler.path and handler.answer(200, {}, bytes(5 << 20)) is None, "invalid"),
    "a page": (lambda handler: handler.answer(200, {"Content-Type": "text/html"}, b"<html>") is None, "invalid"),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_is_one_clear_error_and_leaves_nothing(server: str, image: Image, root: StateRoot, name: str) -> None:
    fault, kind = LASTING[name]
    with front(server, fault) as before:
        answer = pull(f"{before.name}/team/app:1", root.path)
    assert answer.get("error") == kind, answer
    check_nothing_left(root)


def test_a_redirect_s_target_gets_no_credential(storage: Path, server: str, image: Image, root: StateRoot) -> None:
    (storage / "users").write_text(htpasswd("me", "word"))
    with (
        registry(storage, name="basic", auth=f"auth:\n  htpasswd: {{realm: x, path: {storage}/users}}\n") as private,
        front(server) as cdn,
    ):

        def redirect(handler: Handler) -> bool:
            if not blob_of(handler) or handler.path.endswith(image.config):
                return False
            handler.answer(307, {"Location": f"http://localhost:{cdn.server_address[1]}{handler.path}"})
            return True

        with front(private, redirect) as before:
            check(root, image, pull(f"{before.name}/team/app:1", root.path, auth={"username": "me", "password": "word"}))
            assert any("authorization" in each.headers for each in before.asked)
        assert len(cdn.asked) == 3 and not any("authorization" in each.headers for each in cdn.asked)


def htpasswd(user: str, password: str) -> str:
    return subprocess.run(["htpasswd", "-nbB", user, password], capture_output=True, text=True, check=True).stdout


def test_basic_authentication_from_every_source(storage: Path, server: str, image: Image, root: StateRoot, tmp_path: Path) -> None:
    (storage / "users").write_text(htpasswd("me", "word"))
    with registry(storage, name="basic", auth=f"auth:\n  htpasswd: {{realm: x, path: {storage}/users}}\n") as private:
        name = f"{private}/team/app:1"
        login = base64.b64encode(b"me:word").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {private: {"auth": login}}}))
        check(root, image, pull(name, root.path, environment={"DOCKER_CONFIG": str(tmp_path)}))
        assert pull(name, root.path, environment={"REGISTRY_AUTH_FILE": str(tmp_path / "config.json")})["config"] == image.config
        assert pull(name, root.path, auth={"username": "me", "password": "word"})["config"] == image.config
        anonymous = pull(name, root.path)
        assert anonymous["error"] == "denied" and "give a credential" in anonymous["message"]
        wrong = pull(name, root.path, auth={"username": "me", "password": "hunter2"})
        assert wrong["error"] == "denied" and "hunter2" not in wrong["message"]


def test_a_token_is_fetched_with_the_credential_and_used(storage: Path, server: str, image: Image, root: StateRoot) -> None:
    tokens = TokenServer(storage, {"me": "word"})
    with (
        front("127.0.0.1:1", tokens) as issuer,
        registry(storage, name="token", auth=tokens.registry_auth(f"http://{issuer.name}/token")) as private,
    ):
        name = f"{private}/team/app:1"
        check(root, image, pull(name, root.path, auth={"username": "me", "password": "word"}))
        assert len(issuer.asked) == 1, "one token does for the manifest and every layer"
        assert pull(name, root.path, auth={"username": "me", "password": "no"})["error"] == "denied"
        assert pull(name, root.path)["error"] == "denied"


def test_a_strange_realm_gets_no_credential(storage: Path, server: str, image: Image, root: StateRoot) -> None:
    tokens = TokenServer(storage, {"me": "word"})
    with front("127.0.0.1:1", tokens) as issuer:
        realm = f"http://localhost.localdomain.invalid:{issuer.server_address[1]}/token"
        with registry(storage, name="token", auth=tokens.registry_auth(realm)) as private:
            answer = pull(f"{private}/team/app:1", root.path, auth={"username": "me", "password": "word"})
        assert answer["error"] == "denied" and "was not sent" in answer["message"] and not issuer.asked


@pytest.fixture(scope="module")
def certificates(storage: Path) -> Path:
    make_authority(storage)
    make_authority(storage, "other")
    make_certificate(storage, "server", "IP:127.0.0.1,DNS:registry.test")
    make_certificate(storage, "client", "DNS:me")
    return storage


def tls(storage: Path, *, clients: bool = False) -> str:
    authorities = f", clientcas: [{storage}/ca.crt]" if clients else ""
    return f"  tls: {{certificate: {storage}/server.crt, key: {storage}/server.key{authorities}}}\n"


def trust(directory: Path, name: str, storage: Path, *, authority: str = "ca", client: bool = False) -> str:
    place = directory / name
    place.mkdir(parents=True)
    (place / "ca.crt").write_text((storage / f"{authority}.crt").read_text())
    if client:
        (place / "me.cert").write_text((storage / "client.crt").read_text())
        (place / "me.key").write_text((storage / "client.key").read_text())
    return str(directory)


def test_a_private_authority_is_trusted_where_certs_d_says_so(
    certificates: Path, server: str, image: Image, root: StateRoot, tmp_path: Path
) -> None:
    with registry(certificates, name="tls", tls=tls(certificates)) as secure:
        name = f"{secure}/team/app:1"
        untrusted = pull(name, root.path)
        assert untrusted["error"] == "unavailable" and "certs.d" in untrusted["message"], "the error says where to put it"
        wrong = trust(tmp_path / "wrong", secure, certificates, authority="other")
        assert pull(name, root.path, certificates=(wrong,))["error"] == "unavailable"
        check(root, image, pull(name, root.path, certificates=(trust(tmp_path / "right", secure, certificates),)))
        assert pull(name, root.path, insecure=True)["config"] == image.config, "insecure takes TLS that proves nothing"


def test_a_client_s_certificate_is_shown(certificates: Path, server: str, image: Image, root: StateRoot, tmp_path: Path) -> None:
    with registry(certificates, name="mutual", tls=tls(certificates, clients=True)) as secure:
        name = f"{secure}/team/app:1"
        without = trust(tmp_path / "without", secure, certificates)
        assert pull(name, root.path, certificates=(without,))["error"] == "unavailable"
        check(root, image, pull(name, root.path, certificates=(trust(tmp_path / "with", secure, certificates, client=True),)))


def test_plain_http_is_only_spoken_where_it_is_asked_for(server: str, image: Image, root: StateRoot, tmp_path: Path) -> None:
    """registry.test is reached through a proxy, which knows where it is."""
    with front(server) as proxy:
        environment = {"HTTP_PROXY": f"http://me:word@{proxy.name}", "HTTPS_PROXY": f"http://{proxy.name}"}
        refused = pull("registry.test/team/app:1", root.path, environment=environment)
        assert refused["error"] == "unavailable" and "insecure" in refused["message"], "the error says what to do"
        assert all(each.method == "CONNECT" for each in proxy.asked), "nothing went in the clear"
        check(root, image, pull("registry.test/team/app:1", root.path, insecure=True, environment=environment))
        plain = [each for each in proxy.asked if each.method == "GET"]
        assert plain and all(each.path.startswith("http://registry.test/v2/") for each in plain)
        assert all(each.headers["proxy-authorization"] == "Basic bWU6d29yZA==" for each in plain)
        conf = tmp_path / "registries.conf"
        conf.write_text('[[registry]]\nlocation = "registry.test"\ninsecure = true\n')
        answer = pull("registry.test/team/app:1", root.path, registries_conf=str(conf), environment=environment)
        assert answer["config"] == image.config


def test_tls_goes_through_a_proxy_s_tunnel(certificates: Path, server: str, image: Image, root: StateRoot, tmp_path: Path) -> None:
    with registry(certificates, name="tunnel", tls=tls(certificates)) as secure, front(secure) as proxy:
        trusted = trust(tmp_path / "certs", "registry.test:8443", certificates)
        environment = {"HTTPS_PROXY": f"http://me:word@{proxy.name}"}
        check(root, image, pull("registry.test:8443/team/app:1", root.path, certificates=(trusted,), environment=environment))
        assert {(each.method, each.path) for each in proxy.asked} == {("CONNECT", "registry.test:8443")}
        assert proxy.asked[0].headers["proxy-authorization"] == "Basic bWU6d29yZA=="


def test_a_mirror_is_asked_first_and_its_failure_is_no_matter(server: str, image: Image, root: StateRoot, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    with front(server) as mirror, front(server) as origin:
        conf.write_text(
            f'[[registry]]\nprefix = "{origin.name}"\nlocation = "{origin.name}"\n'
            f'[[registry.mirror]]\nlocation = "127.0.0.1:1"\n[[registry.mirror]]\nlocation = "{mirror.name}"\n'
        )
        answer = pull(f"{origin.name}/team/app:1", root.path, registries_conf=str(conf))
        check(root, image, answer)
        assert mirror.asked and not origin.asked, "the mirror that answers serves everything"
        assert answer["repo_digest"].startswith(f"{origin.name}/team/app@"), "the image is known by its own name"
        mirror.faults = (status(404),)
        other = StateRoot(f"{root.path}-2")
        check(other, image, pull(f"{origin.name}/team/app:1", other.path, registries_conf=str(conf)))
        assert origin.asked, "the registry itself comes last"


def program(name: str, root: StateRoot) -> str:
    imports = ("engine import pull", "store.root import StateRoot", "model.reference import parse_reference")
    lines = [f"import sys; sys.path.insert(0, {RUNTIME!r})", *(f"from bayplan.{each}" for each in imports)]
    return "\n".join([*lines, f"pull.pull(parse_reference({name!r}), root=StateRoot({root.path!r}))"])


def test_a_killed_pull_leaves_nothing_that_is_believed(server: str, image: Image, root: StateRoot) -> None:
    """Killed at many moments; the next one always succeeds and cleans up."""
    code = program(f"{server}/team/app:1", root)
    for delay in range(12):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        time.sleep(0.12 + delay * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.5)  # workers finish their layers, or notice that nobody listens
    check(root, image, pull(f"{server}/team/app:1", root.path))


def test_an_interrupted_pull_ends_its_workers_and_cleans_up(server: str, image: Image, root: StateRoot) -> None:
    ended = threading.Event()

    def slow(handler: Handler) -> bool:
        if blob_of(handler) and not handler.path.endswith(image.config):
            handler.send_response(200)
            handler.send_header("Content-Length", "3000000")
            handler.end_headers()
            handler.wfile.write(b"\x1f\x8b")
            handler.wfile.flush()
            ended.wait()  # a registry that never answers would be waited for, if anybody did
            handler.close_connection = True
            return True
        return False

    with front(server, slow) as before:
        heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's job in the background ignores it
        code = heeds + program(f"{before.name}/team/app:1", root)
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + 20
            while not root.exists() or len(os.listdir(root.staging)) != 3:
                assert time.monotonic() < deadline, "three layers are on their way"
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=60)
        finally:
            ended.set()
            process.kill()
            process.wait()
    check_nothing_left(root)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_ten_pulls_at_once_fetch_each_layer_once(server: str, image: Image, root: StateRoot) -> None:
    answers: list[dict[str, Any]] = []
    with front(server) as before:
        threads = [threading.Thread(target=lambda: answers.append(pull(f"{before.name}/team/app:1", root.path))) for _ in range(10)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        layers_asked = [each.path for each in before.asked if "/blobs/" in each.path and not each.path.endswith(image.config)]
    assert [answer.get("config") for answer in answers] == [image.config] * 10, answers
    assert len(layers_asked) == 3, "the others wait for the one that fetches it"
    check(root, image, answers[0])


FULL = """
set -e
mkdir -p "$2"; mount -t tmpfs -o size="$3" tmpfs "$2"
"$1" - "$2" <<'END'
import os, sys
from bayplan.engine import pull
from bayplan.errors import BayplanError
from bayplan.model.reference import parse_reference
from bayplan.store.root import StateRoot
root = StateRoot(sys.argv[1])
try:
    pull.pull(parse_reference(os.environ["REFERENCE"]), root=root)
except BayplanError as error:
    print(error.kind, error)
print(sorted(os.listdir(root.layers)), sorted(os.listdir(root.blobs + "/sha256")), sorted(os.listdir(root.staging)))
END
"""


@pytest.mark.parametrize("size", ["2m", "3m", "4m", "5m"])
def test_a_full_disk_is_one_clear_error_and_leaves_no_half_layer(server: str, image: Image, tmp_path: Path, size: str) -> None:
    """On a small file system of a namespace of its own."""
    environment = {**os.environ, "PYTHONPATH": RUNTIME, "REFERENCE": f"{server}/team/app:1"}
    command = ["unshare", "-m", "sh", "-c", FULL, "sh", sys.executable, str(tmp_path / "small"), size]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    said, left = done.stdout.splitlines()
    assert "No space left on device" in said or "room" in said, said
    large = parse_digest(image.layers[0]).hex
    assert large not in left and left.endswith("[]"), "neither the layer nor anything in staging is left"
