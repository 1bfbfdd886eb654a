"""The conversation of a push, played against a registry that is a few lines, and behaves badly on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from test_registry_protocol import ACCESS, BEARER, header, play

from bayplan.errors import BayplanError, Denied, Invalid, NotFound, Unavailable
from bayplan.model.digest import Digest
from bayplan.model.secret import Secret
from bayplan.registry.protocol import Body, Request, Response
from bayplan.registry.protocol_push import ATTEMPTS, Content, Outcome, push_blob, push_manifest
from bayplan.registry.protocol_tags import list_tags

DATA = bytes(range(256)) * 40  # 10,240 bytes
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())
Fault = Callable[[Request], "Response | None"]


def content(data: bytes = DATA) -> Content:
    return Content(DIGEST, len(data), lambda start, end: [data[start:end]])


class Registry:
    """What distribution-spec asks of uploads; `faults` answer first, and may take part of a body by `cut`."""

    def __init__(self, *faults: Fault, other: bytes | None = None, least: int = 0) -> None:
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.mountable = {"other/repository": other} if other is not None else {}
        self.faults = list(faults)
        self.least = least
        self.received = 0

    def __call__(self, request: Request) -> Response:
        for fault in self.faults:
            answer = fault(request)
            if answer:
                return answer
        parts = urlsplit(request.url)
        return self.blob(request, parts.path.rpartition("/")[2]) if "/uploads/" not in parts.path else self.upload(request, parts)

    def blob(self, request: Request, digest: str) -> Response:
        return Response(200 if digest in self.blobs else 404, {})

    def upload(self, request: Request, parts: Any) -> Response:
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        name = parts.path.rpartition("/")[2]
        if request.method == "POST":
            return self.begin(query)
        if name not in self.uploads:
            return Response(404, {})
        if request.method == "PATCH":
            return self.chunk(name, request)
        if request.method == "PUT":
            return self.end(name, query["digest"], taken(request))
        if request.method == "DELETE":
            del self.uploads[name]
            return Response(204, {})
        return Response(204, self.where(name))

    def begin(self, query: dict[str, str]) -> Response:
        data = self.mountable.get(query.get("from", ""))
        if data is not None and query["mount"] == f"sha256:{hashlib.sha256(data).hexdigest()}":
            self.blobs[query["mount"]] = data
            return Response(201, {})
        name = str(len(self.uploads))
        self.uploads[name] = b""
        return Response(202, {"location": f"/v2/a/b/blobs/uploads/{name}?state=1", "oci-chunk-min-length": str(self.least)})

    def chunk(self, name: str, request: Request, *, take: int | None = None) -> Response:
        first, _, last = dict(request.headers)["Content-Range"].partition("-")
        data = taken(request)
        assert len(data) == int(last) - int(first) + 1
        if int(first) != len(self.uploads[name]):
            return Response(416, self.where(name))
        self.uploads[name] += data[:take]
        self.received += len(data[:take])
        return Response(202, self.where(name))

    def where(self, name: str) -> dict[str, str]:
        return {"location": f"/v2/a/b/blobs/uploads/{name}?state=2", "range": f"0-{max(0, len(self.uploads[name]) - 1)}"}

    def end(self, name: str, digest: str, data: bytes) -> Response:
        self.received += len(data)
        whole = self.uploads.pop(name) + data
        if digest != f"sha256:{hashlib.sha256(whole).hexdigest()}":
            return Response(400, {}, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
        self.blobs[digest] = whole
        return Response(201, {})


def taken(request: Request) -> bytes:
    return b"".join(map(bytes, request.body.pieces())) if isinstance(request.body, Body) else request.body


def push(registry: Registry, *, whole: int = 1, chunk: int = 4000, sources: tuple[str, ...] = ()) -> tuple[Outcome, list[Request]]:
    (outcome, _), asked = play(push_blob(ACCESS, content(), whole=whole, chunk=chunk, sources=sources), registry)
    assert registry.blobs.get(str(DIGEST)) == DATA, "the blob is there, and right"
    return outcome, asked


def test_a_blob_that_is_there_is_not_sent() -> None:
    registry = Registry()
    registry.blobs[str(DIGEST)] = DATA
    outcome, asked = push(registry)
    assert outcome.how == "exists" and [each.method for each in asked] == ["HEAD"]


def test_a_small_blob_is_one_request_after_its_beginning() -> None:
    outcome, asked = push(Registry(), whole=1 << 20)
    assert outcome.how == "pushed" and [each.method for each in asked] == ["HEAD", "POST", "PUT"]
    assert "state=1" in asked[2].url, "the registry's own query is kept"


def test_a_large_blob_goes_in_chunks() -> None:
    _, asked = push(Registry())
    ranges = [header(each, "Content-Range") for each in asked if each.method == "PATCH"]
    assert ranges == ["0-3999", "4000-7999", "8000-10239"] and asked[-1].method == "PUT"
    assert "state=2" in asked[-1].url, "each answer's address is where it goes on"


def test_a_registry_gets_chunks_as_large_as_it_wants() -> None:
    _, asked = push(Registry(least=6000))
    assert [header(each, "Content-Range") for each in asked if each.method == "PATCH"] == ["0-5999", "6000-10239"]


def test_a_blob_of_another_repository_is_mounted() -> None:
    registry = Registry(other=DATA)
    outcome, _ = push(registry, sources=("unknown/one", "other/repository"))
    assert outcome == Outcome("mounted", "other/repository") and not registry.received
    assert not registry.uploads, "what a mount would rather have uploaded was given up"


def test_a_mount_that_is_refused_is_an_upload() -> None:
    def refuse(request: Request) -> Response | None:
        return Response(403, {}) if "mount=" in request.url else None

    outcome, _ = push(Registry(refuse, other=DATA), sources=("other/repository",))
    assert outcome.how == "pushed"


def test_a_broken_chunk_goes_on_from_what_the_registry_has() -> None:
    def cut(request: Request) -> Response | None:
        if request.method != "PATCH" or len(broken) == 3:
            return None
        broken.append(request)
        registry.chunk(urlsplit(request.url).path.rpartition("/")[2], request, take=1000)
        return Response(0, {}, b"it broke")

    broken: list[Request] = []
    registry = Registry(cut)
    push(registry)
    assert registry.received == len(DATA), "every byte was sent once"


def test_an_upload_that_was_forgotten_begins_anew() -> None:
    def forget(request: Request) -> Response | None:
        if request.method == "PATCH" and not forgotten and header(request, "Content-Range") != "0-3999":
            forgotten.append(request)
            registry.uploads.clear()
            return Response(0, {}, b"it broke")
        return None

    forgotten: list[Request] = []
    registry = Registry(forget)
    _, asked = push(registry)
    assert [each.method for each in asked].count("POST") == 2


def test_a_lost_answer_to_the_end_is_no_second_upload() -> None:
    def lose(request: Request) -> Response | None:
        if request.method != "PUT" or lost:
            return None
        lost.append(request)
        registry.upload(request, urlsplit(request.url))
        return Response(0, {}, b"it broke")

    lost: list[Request] = []
    registry = Registry(lose)
    push(registry)
    assert registry.received == len(DATA)


def test_too_large_a_request_makes_smaller_ones() -> None:
    def bound(request: Request) -> Response | None:
        return Response(413, {}) if isinstance(request.body, Body) and request.body.size > 2 << 20 else None

    large = bytes(9 << 20)
    digest = Digest("sha256", hashlib.sha256(large).hexdigest())
    registry = Registry(bound)
    play(push_blob(ACCESS, Content(digest, len(large), lambda start, end: [large[start:end]]), chunk=8 << 20), registry)
    assert registry.blobs[str(digest)] == large


def always(status: int, *methods: str, code: str = "") -> Fault:
    body = f'{{"errors":[{{"code":"{code}","message":"says it"}}]}}'.encode() if code else b""
    return lambda request: Response(status, {}, body) if request.method in methods else None


LASTING = {
    "never through": (always(0, "PATCH"), Unavailable),
    "always 503 at the end": (always(503, "PUT"), Unavailable),
    "forbidden": (always(403, "POST", code="DENIED"), Denied),
    "no such repository": (always(404, "POST", code="NAME_UNKNOWN"), NotFound),
    "not allowed here": (always(405, "POST", code="UNSUPPORTED"), Invalid),
    "another digest": (always(400, "PUT", code="DIGEST_INVALID"), Invalid),
    "no address": (lambda request: Response(202, {}) if request.method == "POST" else None, Unavailable),
    "another scheme": (lambda request: Response(202, {"location": "file:///x"}) if request.method == "POST" else None, Unavailable),
    "plain http elsewhere": (lambda request: Response(202, {"location": "http://x.y/"}) if request.method == "POST" else None, Denied),
    "takes nothing": (lambda request: Response(202, {"range": "0-0"}) if request.method == "PATCH" else None, Unavailable),
    "claims too much": (lambda request: Response(202, {"range": "0-99999999"}) if request.method == "PATCH" else None, Invalid),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_is_one_clear_error_in_bounded_time(name: str) -> None:
    fault, kind = LASTING[name]
    asked: list[Request] = []

    def server(request: Request) -> Response:
        asked.append(request)
        assert len(asked) < 200, "it ends"
        return registry(request)

    registry = Registry(fault)
    with pytest.raises(kind) as caught:
        conversation = push_blob(ACCESS, content(), whole=1, chunk=4000)
        request = next(conversation)
        while True:
            request = conversation.send(server(request))
    assert isinstance(caught.value, BayplanError) and str(DIGEST) not in registry.blobs
    assert max(each.failures for each in asked) < ATTEMPTS


def test_a_location_on_plain_http_of_the_same_registry_stays_with_tls() -> None:
    def plain(request: Request) -> Response | None:
        if request.method != "POST":
            return None
        answer = registry.begin({})
        return answer._replace(headers={"location": f"http://registry.example.com{answer.headers['location']}"})

    registry = Registry(plain)
    _, asked = push(registry)
    assert {urlsplit(each.url).scheme for each in asked} == {"https"}


def test_an_upload_elsewhere_gets_no_credential() -> None:
    def elsewhere(request: Request) -> Response | None:
        if request.method == "POST":
            registry.uploads["0"] = b""
            return Response(202, {"location": "https://storage.example.net/v2/a/b/blobs/uploads/0"})
        return Response(202, {"range": request.headers[1][1]}) if request.method == "PATCH" and not registry.chunk("0", request) else None

    registry = Registry(elsewhere)
    access = ACCESS._replace(authorization=Secret("Bearer x"))
    _, asked = play(push_blob(access, content(), chunk=4000, whole=1), registry)
    there = [each for each in asked if "storage" in each.url]
    assert there and all(header(each, "Authorization") is None for each in there)


def test_a_token_for_a_push_is_asked_with_both_scopes() -> None:
    def challenge(request: Request) -> Response | None:
        if "auth.example.com" in request.url:
            return Response(200, {}, b'{"token":"tok"}')
        return None if header(request, "Authorization") == "Bearer tok" else Response(401, {"www-authenticate": BEARER})

    access = ACCESS._replace(actions="pull,push", also=("other/repository",))
    _, asked = play(push_blob(access, content(), sources=("other/repository",)), Registry(challenge, other=DATA))
    query = parse_qs(urlsplit(asked[1].url).query)
    assert query["scope"] == ["repository:a/b:pull,push", "repository:other/repository:pull"]


def test_a_manifest_goes_as_it_is_and_its_digest_is_compared() -> None:
    found, asked = play(push_manifest(ACCESS, "1", b"{ }", "a/b", DIGEST), lambda request: Response(201, {}))
    assert asked[0].body == b"{ }" and header(asked[0], "Content-Type") == "a/b" and found == ACCESS
    with pytest.raises(Unavailable):
        other = {"docker-content-digest": f"sha256:{'0' * 64}"}
        play(push_manifest(ACCESS, "1", b"{ }", "a/b", DIGEST), lambda request: Response(201, other))


def pages(*several: str, link: str = '</v2/a/b/tags/list?last={}>; rel="next"') -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        at = int(parse_qs(urlsplit(request.url).query).get("last", ["0"])[0])
        headers = {"link": link.format(at + 1)} if at + 1 < len(several) else {}
        return Response(200, headers, f'{{"name":"a/b","tags":{several[at]}}}'.encode())

    return answer


def test_tags_come_by_pages_up_to_a_limit() -> None:
    server = pages('["a","b"]', '["c"]', '["d"]')
    assert play(list_tags(ACCESS, limit=100), server)[0][0] == ("a", "b", "c", "d")
    found, asked = play(list_tags(ACCESS, limit=3, page=2), server)
    assert found[0] == ("a", "b", "c") and len(asked) == 2 and "n=2" in asked[0].url
    assert play(list_tags(ACCESS, limit=9), pages("null"))[0][0] == (), "a repository without tags"


@pytest.mark.parametrize("link", ['</v2/a/b/tags/list?last=0>; rel="next"', '<https://evil.example.net/>; rel="next"'])
def test_pages_that_never_end_or_lead_elsewhere_are_an_error(link: str) -> None:
    with pytest.raises(Unavailable):
        play(list_tags(ACCESS, limit=100), pages('["a"]', '["b"]', link=link))


@pytest.mark.parametrize("tags", ['["../x"]', '["a\\u001b[31m"]', "[1]", "{}", '["' + "a" * 200 + '"]'])
def test_what_is_no_tag_is_refused(tags: str) -> None:
    with pytest.raises(Invalid):
        play(list_tags(ACCESS, limit=100), pages(tags))


def test_a_token_that_ends_in_the_middle_is_renewed() -> None:
    def expire(request: Request) -> Response | None:
        if "auth.example.com" in request.url:
            issued.append(f"tok{len(issued)}")
            return Response(200, {}, f'{{"token":"{issued[-1]}"}}'.encode())
        used.append(request)
        current = issued and header(request, "Authorization") == f"Bearer {issued[-1]}" and len(used) % 3
        return None if current else Response(401, {"www-authenticate": BEARER})

    issued: list[str] = []
    used: list[Request] = []
    registry = Registry(expire)
    push(registry)
    assert len(issued) > 1 and registry.received == len(DATA), "no byte was sent twice for it"
