"""Pushes to real registries: what is sent and what is not, over good and bad connections, with every way to log in."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layer_lab import archive, entry
from moving_lab import docker_archive, hows, layer, load, move
from registry_lab import Fault, Handler, TokenServer, front, make_authority, make_certificate, pull, registry, send
from test_pull import htpasswd, once, status, tls, trust

from bayplan.store.root import StateRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a state needs root")

BASE, TOP, OTHER = layer("base", 3_000_000, 1), layer("top", 400_000, 2), layer("top", 500_000, 3)
ACCEPT = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A registry that is empty."""
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as name:
        yield name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A state with two images that share a layer."""
    directory = tmp_path_factory.mktemp("state")
    path = str(directory / "state")
    load(path, docker_archive(directory / "one.tar", [BASE, TOP], "app:1"))
    load(path, docker_archive(directory / "two.tar", [BASE, OTHER], "app:2"))
    return path


def name_it(root: str, source: str, target: str) -> str:
    from bayplan.engine import images
    from bayplan.engine.state import open_state

    images.tag(open_state(root), source, target)
    return target


def manifest(server: str, repository: str, tag: str) -> tuple[str, dict[str, Any]]:
    """Its digest by its bytes, and what it says."""
    code, _, data = send(server, "GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": ACCEPT})
    assert code == 200, data
    return f"sha256:{hashlib.sha256(data).hexdigest()}", json.loads(data)


def check(server: str, repository: str, tag: str) -> str:
    """Every blob of an image at a registry is there and right; the manifest's digest."""
    digest, document = manifest(server, repository, tag)
    for each in (document["config"], *document["layers"]):
        code, _, data = send(server, "GET", f"/v2/{repository}/blobs/{each['digest']}")
        assert code == 200 and len(data) == each["size"] and each["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    return digest


def test_what_is_pushed_is_pulled_again(server: str, root: str, tmp_path: Path) -> None:
    name = name_it(root, "app:1", f"{server}/team/app:1")
    answer = move("push", root=root, name=name)
    assert hows(answer) == ["pushed", "pushed"] and len({line.split()[0] for line in answer["told"]}) == 2, "layers by their diff_ids"
    digest = check(server, "team/app", "1")
    assert answer["pushed"][0][:2] == [name, digest]
    again = pull(name, str(tmp_path / "other"))
    assert again["digest"] == digest and again["layers"] == [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in (BASE, TOP)]


def test_a_second_push_sends_nothing_but_the_manifest(server: str, root: str) -> None:
    with front(server) as before:
        name = name_it(root, "app:1", f"{before.name}/team/app:1")
        move("push", root=root, name=name)
        before.asked.clear()
        assert hows(move("push", root=root, name=name)) == ["exists", "exists"]
        sent = [(each.method, each.path.rpartition("/")[0]) for each in before.asked if each.size]
    assert sent == [("PUT", "/v2/team/app/manifests")]


def test_of_an_image_with_another_top_layer_only_that_is_sent_and_two_small_documents(server: str, root: str) -> None:
    with front(server) as before:
        move("push", root=root, name=name_it(root, "app:1", f"{before.name}/team/app:1"))
        before.asked.clear()
        answer = move("push", root=root, name=name_it(root, "app:2", f"{before.name}/team/app:2"))
        assert hows(answer) == ["exists", "pushed"]
        sent = sorted(each.size for each in before.asked if each.size)
    _, document = manifest(server, "team/app", "2")
    small = [document["config"]["size"], answer["pushed"][0][2]]
    assert sent == sorted([document["layers"][1]["size"], *small]) and max(small) < 1000, "one layer, the config and the manifest"


def test_a_blob_of_another_repository_is_mounted_and_not_sent(server: str, root: str) -> None:
    with front(server) as before:
        move("push", root=root, name=name_it(root, "app:1", f"{before.name}/first/app:1"))
        before.asked.clear()
        answer = move("push", root=root, name=name_it(root, "app:1", f"{before.name}/second/app:1"))
        assert hows(answer) == ["mounted", "mounted"] and "first/app" in answer["told"][0]
        assert [each.method for each in before.asked if each.size] == ["PUT"], "only the manifest has been sent"
    assert check(server, "second/app", "1") == check(server, "first/app", "1")


def test_a_blob_that_the_other_repository_has_lost_is_sent(server: str, root: str, tmp_path: Path) -> None:
    move("push", root=root, name=name_it(root, "app:1", f"{server}/gone/app:1"))
    import shutil

    shutil.rmtree(tmp_path / "registry/storage/docker/registry/v2/repositories/gone")
    assert hows(move("push", root=root, name=name_it(root, "app:1", f"{server}/new/app:1"))) == ["pushed", "pushed"]
    check(server, "new/app", "1")


def test_all_tags_of_a_repository_are_pushed(server: str, root: str) -> None:
    for tag in ("1", "2"):
        name_it(root, f"app:{tag}", f"{server}/all/app:{tag}")
    answer = move("push", root=root, name=f"{server}/all/app", every_tag=True)
    assert [each[0] for each in answer["pushed"]] == [f"{server}/all/app:1", f"{server}/all/app:2"]
    assert sorted(move("tags", name=f"{server}/all/app")["tags"]) == ["1", "2"]
    assert move("push", root=root, name=f"{server}/all/app:1", every_tag=True)["error"] == "invalid"
    assert move("push", root=root, name=f"{server}/all/none", every_tag=True)["error"] == "not_found"


def test_a_pulled_manifest_goes_on_byte_for_byte(server: str, root: str, tmp_path: Path) -> None:
    data = json.dumps({"schemaVersion": 2, **odd_manifest(server)}, indent=7).encode()  # as nobody else would write it
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    assert send(server, "PUT", "/v2/odd/app/manifests/1", data, kind)[0] == 201
    state = str(tmp_path / "state")
    assert move("copy", root=state, source=f"docker://{server}/odd/app:1", target="store:odd:1").get("exact")
    name = name_it(state, "odd:1", f"{server}/even/app:1")
    assert move("push", root=state, name=name)["pushed"][0][1] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert send(server, "GET", "/v2/even/app/manifests/1", headers=kind | {"Accept": ACCEPT})[2] == data


def odd_manifest(server: str) -> dict[str, Any]:
    from registry_lab import push_image

    push_image(server, "odd/app", "tmp", [TOP])
    return {**manifest(server, "odd/app", "tmp")[1], "annotations": {"a": "ä"}}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_plain_layers_are_compressed_once(server: str, tmp_path: Path, compression: str) -> None:
    state = str(tmp_path / "state")
    plain = [BASE, archive([entry("zeros", bytes(1_000_000))])]
    load(state, docker_archive(tmp_path / "saved", plain, "plain:1"), f"{server}/plain/app:1", f"{server}/plain/app:2")
    first = move("push", root=state, name=f"{server}/plain/app:1", compression=compression)
    assert hows(first) == ["pushed", "pushed"]
    digest, document = manifest(server, "plain/app", "1")
    sizes = [each["size"] for each in document["layers"]]
    assert sizes[1] < 10_000 and all(each["mediaType"].endswith(compression) for each in document["layers"])
    second = move("push", root=state, name=f"{server}/plain/app:2")
    assert second["pushed"][0][1] == digest == check(server, "plain/app", "2"), "the second time there is nothing to compress"
    layers = pull(f"{server}/plain/app:1", str(tmp_path / "other"))["layers"]
    assert layers == [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in plain], "and it is the same image"
    assert os.listdir(StateRoot(state).staging) == []


def test_another_format_has_the_same_blobs(server: str, root: str, tmp_path: Path) -> None:
    name = name_it(root, "app:1", f"{server}/formats/app:1")
    move("push", root=root, name=name)
    first = manifest(server, "formats/app", "1")
    assert hows(move("push", root=root, name=name, format="oci")) == ["exists", "exists"]
    second = manifest(server, "formats/app", "1")
    assert first[0] != second[0] and "docker" in first[1]["mediaType"] and "oci" in second[1]["mediaType"]
    assert [each["digest"] for each in first[1]["layers"]] == [each["digest"] for each in second[1]["layers"]]
    assert pull(name, str(tmp_path / "state"))["layers"], "both are pulled"


def upload_of(handler: Handler, *methods: str) -> bool:
    return handler.command in methods and "/blobs/uploads/" in handler.path


def limited(fault: Fault, methods: tuple[str, ...], times: int) -> Fault:
    """The fault, for the first few of these requests of uploads."""
    left = [times]

    def answer(handler: Handler) -> bool:
        if not upload_of(handler, *methods) or left[0] <= 0:
            return False
        left[0] -= 1
        return fault(handler)

    return answer


def silent(handler: Handler) -> bool:
    handler.close_connection = True
    return True


def half(handler: Handler) -> bool:
    handler.break_off(handler.size() // 2)
    return True


def lost_answer(handler: Handler) -> bool:
    path, body = handler.path, handler.taken()
    send(handler.server.behind, handler.command, path, body, {**handler.headers})
    handler.close_connection = True
    return True


PASSING: dict[str, Fault] = {
    "503 to a beginning": limited(status(503), ("POST",), 2),
    "429 to chunks": limited(status(429, **{"Retry-After": "0"}), ("PATCH",), 3),
    "502 to ends": limited(status(502), ("PUT",), 2),
    "no answer to a beginning": limited(silent, ("POST",), 2),
    "half of a chunk": limited(half, ("PATCH",), 2),
    "half of a whole blob": limited(half, ("PUT",), 1),
    "an answer to a chunk is lost": limited(lost_answer, ("PATCH",), 1),
    "an answer to an end is lost": limited(lost_answer, ("PUT",), 2),
    "manifests once in vain": once(status(503), 1),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_does_not_stop_a_push(server: str, root: str, name: str) -> None:
    with front(server, PASSING[name]) as before:
        answer = move("push", root=root, name=name_it(root, "app:1", f"{before.name}/team/app:1"), chunk=1 << 20, whole=100_000)
        assert hows(answer) == ["pushed", "pushed"], "what was in the way has passed"
    check(server, "team/app", "1")


def test_between_chunks_an_upload_goes_on_where_it_was(server: str, root: str) -> None:
    seen: list[str] = []

    def drop_second(handler: Handler) -> bool:
        if handler.command != "PATCH" or handler.headers["Content-Range"].startswith("0-") or seen:
            return False
        seen.append(handler.path)
        handler.close_connection = True  # before anything of it came to the registry
        return True

    with front(server, drop_second) as before:
        move("push", root=root, name=name_it(root, "app:1", f"{before.name}/team/app:1"), chunk=1 << 20, whole=600_000)
        begun = [each.method for each in before.asked].count("POST")
        ranges = [each.headers["content-range"] for each in before.asked if each.method == "PATCH"]
    check(server, "team/app", "1")
    assert begun == 3 and ranges.count("1048576-2097151") == 2, "the upload was not begun anew"


def manifest_of(handler: Handler) -> bool:
    return handler.command == "PUT" and "/manifests/" in handler.path


def changed(handler: Handler) -> bool:
    """The registry gets another document, which is as good, under another name."""
    body = handler.taken().replace(b"{", b"{ ", 1)
    headers = {key: value for key, value in handler.headers.items() if key.lower() != "content-length"}
    handler.answer(*send(handler.server.behind, "PUT", "/v2/bad/app/manifests/changed", body, headers))
    return True


LASTING: dict[str, tuple[Fault, str, str]] = {
    "always 503": (lambda handler: upload_of(handler, "PUT", "PATCH") and status(503)(handler), "unavailable", "503"),
    "forbidden": (lambda handler: upload_of(handler, "POST") and status(403)(handler), "denied", "give a credential"),
    "no uploads": (lambda handler: upload_of(handler, "POST") and status(405)(handler), "invalid", "405"),
    "too large": (lambda handler: upload_of(handler, "PUT", "PATCH") and status(413)(handler), "invalid", "413"),
    "manifests refused": (lambda handler: manifest_of(handler) and status(400)(handler), "invalid", "400"),
    "manifests changed": (lambda handler: manifest_of(handler) and changed(handler), "unavailable", "damaged"),
    "a page": (lambda handler: handler.answer(200, {"Content-Type": "text/html"}, b"<html>") is None, "unavailable", ""),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_is_one_clear_error_and_no_name(server: str, root: str, name: str) -> None:
    fault, kind, words = LASTING[name]
    with front(server, fault) as before:
        answer = move("push", root=root, name=name_it(root, "app:1", f"{before.name}/bad/app:1"), attempts=2)
    assert answer.get("error") == kind and words in answer["message"], answer
    assert send(server, "GET", "/v2/bad/app/manifests/1")[0] == 404, "nobody finds an image that is not whole"


def test_passwords_and_their_absence(storage: Path, root: str) -> None:
    (storage / "users").write_text(htpasswd("me", "word"))
    with registry(storage, name="basic", auth=f"auth:\n  htpasswd: {{realm: x, path: {storage}/users}}\n") as private:
        name = name_it(root, "app:1", f"{private}/team/app:1")
        anonymous = move("push", root=root, name=name)
        assert anonymous["error"] == "denied" and "login" in anonymous["message"], "one is told to log in"
        wrong = move("push", root=root, name=name, auth={"username": "me", "password": "hunter2"})
        assert wrong["error"] == "denied" and "hunter2" not in wrong["message"]
        login = base64.b64encode(b"me:word").decode()
        (storage / "config.json").write_text(json.dumps({"auths": {private: {"auth": login}}}))
        assert len(hows(move("push", root=root, name=name, environment={"DOCKER_CONFIG": str(storage)}))) == 2


def test_tokens_are_asked_for_a_push_and_for_what_is_mounted(storage: Path, root: str) -> None:
    tokens = TokenServer(storage, {"me": "word", "reader": "word"})
    with (
        front("127.0.0.1:1", tokens) as issuer,
        registry(storage, name="token", auth=tokens.registry_auth(f"http://{issuer.name}/token")) as private,
    ):
        login = {"username": "me", "password": "word"}
        assert len(hows(move("push", root=root, name=name_it(root, "app:1", f"{private}/token/app:1"), auth=login))) == 2
        assert len(issuer.asked) == 1 and "token%2Fapp%3Apull%2Cpush" in issuer.asked[0].path, "one token does for all of it"
        answer = move("push", root=root, name=name_it(root, "app:1", f"{private}/token/other:1"), auth=login)
        assert hows(answer) == ["mounted", "mounted"] and "token%2Fapp%3Apull" in issuer.asked[1].path
        reader = move("push", root=root, name=name_it(root, "app:2", f"{private}/token/app:2"), auth={**login, "username": "reader"})
        assert reader["error"] == "denied" and "reader" in reader["message"] and "another account" in reader["message"]
        nobody = move("push", root=root, name=f"{private}/token/app:1")
        assert nobody["error"] == "denied" and "login" in nobody["message"]


@pytest.fixture(scope="module")
def certificates(storage: Path) -> Path:
    make_authority(storage)
    make_certificate(storage, "server", "IP:127.0.0.1,DNS:registry.test")
    make_certificate(storage, "client", "DNS:me")
    return storage


def test_tls_with_a_private_authority_and_a_client_s_certificate(certificates: Path, root: str, tmp_path: Path) -> None:
    with registry(certificates, name="clients", tls=tls(certificates, clients=True)) as private:
        name = name_it(root, "app:1", f"{private}/tls/app:1")
        place = trust(tmp_path, private, certificates, client=True)
        assert len(hows(move("push", root=root, name=name, certificates=(place,)))) == 2
        untrusted = move("push", root=root, name=name, certificates=(str(tmp_path / "none"),), attempts=1)
        assert untrusted["error"] == "unavailable" and "certificate" in untrusted["message"] and "certs.d" in untrusted["message"]
        unknown = move("push", root=root, name=name, certificates=(trust(tmp_path / "no", private, certificates),), attempts=1)
        assert unknown["error"] == "unavailable", "without the client's certificate there is no connection"


def test_a_store_behind_the_registry_gets_no_credential(storage: Path, server: str, root: str) -> None:
    """An upload's location may be somewhere else altogether: the credential is for the registry alone."""
    (storage / "users").write_text(htpasswd("me", "word"))
    with (
        registry(storage, name="store", auth=f"auth:\n  htpasswd: {{realm: x, path: {storage}/users}}\n") as private,
        front(server) as elsewhere,
    ):

        def redirect(handler: Handler) -> bool:
            if not upload_of(handler, "POST"):
                return False
            code, headers, _ = send(elsewhere.name, "POST", handler.path)
            handler.answer(code, {"Location": headers["location"]})
            return True

        with front(private, redirect) as before:
            name = name_it(root, "app:1", f"{before.name}/elsewhere/app:1")
            answer = move("push", root=root, name=name, auth={"username": "me", "password": "word"}, attempts=1)
            assert answer["error"] in ("invalid", "not_found", "unavailable"), "the blobs are elsewhere, so the manifest is refused"
            assert any("authorization" in each.headers for each in before.asked)
        assert elsewhere.asked and not any("authorization" in each.headers for each in elsewhere.asked)


def test_nothing_of_a_push_stays_in_the_state(server: str, root: str) -> None:
    before = sorted(os.listdir(StateRoot(root).staging))
    move("push", root=root, name=name_it(root, "app:1", f"{server}/clean/app:1"))
    assert sorted(os.listdir(StateRoot(root).staging)) == before == []
