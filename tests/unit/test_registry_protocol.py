"""The conversation with a registry, played without one: where credentials go above all."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from bayplan.errors import BayplanError, Denied, Invalid, NotFound, Unavailable
from bayplan.model.digest import Digest
from bayplan.model.secret import Secret
from bayplan.registry.protocol import Access, Credential, Request, Response, get_manifest, head_manifest, open_blob, parse_challenges

LOGIN = Credential("me", Secret("secret"))
BASIC = f"Basic {base64.b64encode(b'me:secret').decode()}"
BEARER = 'Bearer realm="https://auth.example.com/token?x=1",service="reg",scope="ignored"'
DIGEST = Digest("sha256", hashlib.sha256(b"{}").hexdigest())
ACCESS = Access("https://registry.example.com", "a/b", LOGIN)

Server = Callable[[Request], Response]


def play(conversation: Any, server: Server) -> tuple[Any, list[Request]]:
    """Play a conversation against a function; what it returned, and every request that it made."""
    asked = []
    request = next(conversation)
    while True:
        asked.append(request)
        assert len(asked) < 50, "the conversation does not end"
        try:
            request = conversation.send(server(request))
        except StopIteration as stop:
            return stop.value, asked


def header(request: Request, name: str) -> str | None:
    return dict(request.headers).get(name)


def registry(challenge: str, *, token: str = "tok", wanted: str = "Bearer tok") -> Server:
    """A registry that wants `wanted` as authorization, with a token server."""

    def answer(request: Request) -> Response:
        if "/v2/" not in request.url:
            return Response(200, {}, json.dumps({"token": token}).encode())
        if header(request, "Authorization") != wanted:
            return Response(401, {"www-authenticate": challenge})
        return Response(200, {"content-type": "x", "docker-content-digest": str(DIGEST)}, b"{}")

    return answer


def test_an_open_registry_is_asked_once_and_gets_no_credential() -> None:
    (found, _), asked = play(get_manifest(ACCESS, "latest"), lambda request: Response(200, {"content-type": "t"}, b"data"))
    assert found.data == b"data" and len(asked) == 1
    assert header(asked[0], "Authorization") is None, "a credential is sent only where it is asked for"


def test_a_token_is_fetched_with_the_password_and_then_used() -> None:
    (found, access), asked = play(get_manifest(ACCESS, "latest"), registry(BEARER))
    assert found.digest == DIGEST
    assert asked[1].url == "https://auth.example.com/token?x=1&service=reg&scope=repository%3Aa%2Fb%3Apull"
    assert header(asked[1], "Authorization") == BASIC
    _, again = play(get_manifest(access, "latest"), registry(BEARER))
    assert len(again) == 1, "the token is kept for the next request"


def test_a_token_is_fetched_anonymously_without_a_credential() -> None:
    _, asked = play(get_manifest(ACCESS._replace(credential=None), "1"), registry(BEARER))
    assert header(asked[1], "Authorization") is None


def test_an_identity_token_is_posted_and_not_in_the_address() -> None:
    access = ACCESS._replace(credential=Credential(identity_token=Secret("refresh")))
    _, asked = play(get_manifest(access, "1"), registry(BEARER))
    assert asked[1].method == "POST" and b"refresh_token=refresh" in asked[1].body and "refresh" not in asked[1].url


def test_a_registry_token_is_used_as_it_is() -> None:
    access = ACCESS._replace(credential=Credential(registry_token=Secret("mine")))
    _, asked = play(get_manifest(access, "1"), registry(BEARER, wanted="Bearer mine"))
    assert len(asked) == 2


def test_basic_authentication_sends_the_password_to_the_registry_itself() -> None:
    _, asked = play(get_manifest(ACCESS, "1"), registry('Basic realm="x"', wanted=BASIC))
    assert len(asked) == 2


def test_bearer_is_preferred_where_both_are_offered() -> None:
    _, asked = play(get_manifest(ACCESS, "1"), registry(f'Basic realm="x", {BEARER}'))
    assert len(asked) == 3


STRANGE_REALMS = {
    "another domain": ("https://evil.net/token", Denied),
    "a name that only ends alike": ("https://evilexample.com/token", Denied),
    "the registry's name as a prefix": ("https://registry.example.com.evil.net/token", Denied),
    "a name before an @": ("https://registry.example.com@evil.net/token", Invalid),
    "plain http": ("http://auth.example.com/token", Denied),
    "a file": ("file:///etc/passwd", Invalid),
    "a header in it": ("https://auth.example.com/\r\nX: y", Invalid),
    "nothing": ("", Invalid),
    "a broken port": ("https://auth.example.com:x/", Invalid),
}


@pytest.mark.parametrize("name", STRANGE_REALMS)
def test_the_password_is_never_sent_to_a_strange_realm(name: str) -> None:
    realm, error = STRANGE_REALMS[name]
    asked = []

    def server(request: Request) -> Response:
        asked.append(request)
        return Response(401, {"www-authenticate": f'Bearer realm="{realm}",service="x"'})

    with pytest.raises(error):
        play(get_manifest(ACCESS, "1"), server)
    assert all(header(each, "Authorization") is None for each in asked), "no request carried the credential"
    assert len(asked) == 1, "the realm was not even asked"


def test_a_realm_elsewhere_is_asked_with_its_own_credential() -> None:
    access = ACCESS._replace(realm_credentials=(("tokens.net", Credential("other", Secret("word"))),))
    _, asked = play(get_manifest(access, "1"), registry('Bearer realm="https://tokens.net/t"'))
    assert header(asked[1], "Authorization") == f"Basic {base64.b64encode(b'other:word').decode()}"


def test_the_parent_of_an_address_is_no_domain() -> None:
    access = Access("https://10.1.2.3", "a", LOGIN)
    with pytest.raises(Denied):
        play(get_manifest(access, "1"), registry('Bearer realm="https://9.1.2.3/t"'))


def test_a_redirect_to_another_host_gets_no_credential() -> None:
    access = ACCESS._replace(authorization=Secret("Bearer tok"))

    def server(request: Request) -> Response:
        if request.url.startswith("https://registry.example.com/"):
            return Response(307, {"location": "https://cdn.example.net/x?sig=1"})
        return Response(200, {})

    _, asked = play(open_blob(access, DIGEST), server)
    assert header(asked[0], "Authorization") == "Bearer tok"
    assert asked[1].url == "https://cdn.example.net/x?sig=1" and header(asked[1], "Authorization") is None


@pytest.mark.parametrize("location", ["https://registry.example.com:8443/x", "https://Registry.example.com.evil.net/x", "//cdn/x"])
def test_another_port_or_a_similar_name_is_another_host(location: str) -> None:
    access = ACCESS._replace(authorization=Secret("Bearer tok"))
    answers = iter([Response(302, {"location": location}), Response(200, {})])
    _, asked = play(open_blob(access, DIGEST), lambda request: next(answers))
    assert header(asked[1], "Authorization") is None


def test_a_redirect_within_the_registry_keeps_the_credential_and_the_range() -> None:
    access = ACCESS._replace(authorization=Secret("Bearer tok"))
    answers = iter([Response(308, {"location": "/v2/other"}), Response(206, {"content-range": "bytes 5-9/10"})])
    _, asked = play(open_blob(access, DIGEST, offset=5), lambda request: next(answers))
    assert header(asked[1], "Authorization") == "Bearer tok" and header(asked[1], "Range") == "bytes=5-"


def test_a_host_that_was_redirected_to_cannot_challenge() -> None:
    answers = iter([Response(307, {"location": "https://cdn.net/"}), Response(401, {"www-authenticate": 'Basic realm="x"'})])
    with pytest.raises(Denied):
        play(open_blob(ACCESS, DIGEST), lambda request: next(answers))


@pytest.mark.parametrize(
    "location", ["http://registry.example.com/x", "file:///etc/shadow", "", "https://u:p@x/", "https://x/\r\ny", "gopher://x"]
)
def test_a_redirect_to_what_is_worse_is_refused(location: str) -> None:
    with pytest.raises((Denied, Unavailable)):
        play(open_blob(ACCESS, DIGEST), lambda request: Response(307, {"location": location}))


def test_endless_redirects_end() -> None:
    with pytest.raises(Unavailable, match="redirects over"):
        play(open_blob(ACCESS, DIGEST), lambda request: Response(307, {"location": request.url}))


def test_a_token_server_s_redirect_is_not_followed() -> None:
    def server(request: Request) -> Response:
        if "/v2/" in request.url:
            return Response(401, {"www-authenticate": BEARER})
        assert "auth.example.com" in request.url, "the password goes nowhere else"
        return Response(302, {"location": "https://evil.net/"})

    with pytest.raises(Unavailable):
        play(get_manifest(ACCESS, "1"), server)


STATUSES: list[tuple[int, type[BayplanError]]] = [
    (404, NotFound),
    (403, Denied),
    (401, Denied),
    (500, Unavailable),
    (429, Unavailable),
    (418, Unavailable),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
def test_each_status_becomes_the_error_that_a_caller_can_handle(status: int, error: type[BayplanError]) -> None:
    body = json.dumps({"errors": [{"code": "X", "message": "because\x1b[31m of\nthis"}]}).encode()
    with pytest.raises(error) as raised:
        play(get_manifest(ACCESS._replace(credential=None), "1"), lambda request: Response(status, {}, body))
    assert "\x1b" not in str(raised.value) and "\n" not in str(raised.value), "what a registry says cannot draw on the terminal"


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{}", b'{"token":5}', b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}', b"[" * 99999])
def test_a_token_that_is_none_is_not_used(body: bytes) -> None:
    def server(request: Request) -> Response:
        if "/v2/" in request.url:
            return Response(401, {"www-authenticate": BEARER})
        return Response(200, {}, body)

    with pytest.raises(Unavailable):
        play(get_manifest(ACCESS, "1"), server)


def test_a_wrong_password_is_named_as_such_and_not_shown() -> None:
    def server(request: Request) -> Response:
        return Response(401, {"www-authenticate": BEARER if "/v2/" in request.url else ""})

    with pytest.raises(Denied, match="'me' is wrong") as raised:
        play(head_manifest(ACCESS, "1"), server)
    assert "secret" not in str(raised.value) and "secret" not in repr(ACCESS)


def test_another_range_than_asked_for_is_refused() -> None:
    with pytest.raises(Unavailable, match="another range"):
        play(open_blob(ACCESS, DIGEST, offset=5), lambda request: Response(206, {"content-range": "bytes 0-9/10"}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ('Basic realm="a b"', (("basic", {"realm": "a b"}),)),
        ('Bearer realm="x",service=y , scope="a,b"', (("bearer", {"realm": "x", "service": "y", "scope": "a,b"}),)),
        (r'Basic realm="a\"b"', (("basic", {"realm": 'a"b'}),)),
        ('Negotiate, Basic realm="x"', (("negotiate", {}), ("basic", {"realm": "x"}))),
    ],
)
def test_challenges_are_read_as_rfc_9110_writes_them(text: str, expected: Any) -> None:
    assert tuple((scheme, dict(parameters)) for scheme, parameters in parse_challenges(text)) == expected
