"""The conversation with a registry, without a network: each function is a generator that yields requests and is sent responses.

What every conversation needs (challenges, redirections, errors), and pulling; pushing is in protocol_push.py, and lists are in
protocol_tags.py. Sources: OCI distribution-spec 1.1 ("Pulling manifests", "Pulling blobs"); RFC 9110 sections 11 (authentication)
and 15.4 (redirections); Docker's token authentication specification. A credential goes to the registry that it is for, and to the
token server of that registry: never to where a redirect, a descriptor's URL or a strange realm points.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from bayplan.errors import BayplanError, Denied, Invalid, NotFound, Unavailable
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.image import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES
from bayplan.model.secret import Secret
from bayplan.model.value import NamedTuple

TOKEN_LIMIT = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_REDIRECTS_LIMIT = 5
ACCEPT = ", ".join(MANIFEST_TYPES + INDEX_TYPES)
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9-]*)\s*(?:(?<=\s)|,|$)")

T = TypeVar("T")


class Body(NamedTuple):
    """What is sent, in pieces that are valid until the next one; `pieces` may be asked again, and begins anew then."""

    size: int
    pieces: Callable[[], Iterable[bytes | memoryview]]


class Request(NamedTuple):
    """One request. The body of the answer is read into memory up to `limit` bytes, or left to the caller if `stream`.

    One that is sent `once` is not tried again: the conversation is told of a broken connection by an answer with status 0, and of
    429 and 5xx as they are. `failures` is how often it was tried in vain already: one waits accordingly before, or as long as
    `retry_after` says. For one that is `slow` one waits twenty times as long for a byte.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Body = b""
    stream: bool = False
    limit: int = MANIFEST_LIMIT
    once: bool = False
    failures: int = 0
    retry_after: str = ""
    slow: bool = False


class Response(NamedTuple):
    """An answer; names in `headers` are lower case. A streamed body is empty here."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Credential(NamedTuple):
    """What a registry wants to know: a name and a password, or a token that stands for both."""

    username: str = ""
    password: Secret = Secret("")
    identity_token: Secret = Secret("")
    registry_token: Secret = Secret("")


class Access(NamedTuple):
    """How one repository is reached: `base` is `https://HOST[:PORT]`, `authorization` what the last challenge was met with.

    `realm_credentials` are for token servers under names that are not the registry's own. A token is asked for `actions` on this
    repository ("pull", "pull,push"), and for pulling from the repositories `also` (to mount their blobs).
    """

    base: str
    repository: str
    credential: Credential | None = None
    realm_credentials: tuple[tuple[str, Credential], ...] = ()
    authorization: Secret = Secret("")
    actions: str = "pull"
    also: tuple[str, ...] = ()


class Found(NamedTuple):
    """A manifest as it came: what it was called, and its digest as the registry gave it (None where it did not)."""

    media_type: str
    digest: Digest | None
    data: bytes


Conversation = Generator[Request, Response, T]


def get_manifest(access: Access, name: str) -> Conversation[tuple[Found, Access]]:
    """Fetch the manifest or index called `name`, a tag or a digest. The caller verifies the digest that it asked for.

    Under a tag the registry's own word is all that there is to compare with: raises Invalid where it says another digest.
    """
    request = Request("GET", manifest_url(access, name), (("Accept", ACCEPT),))
    response, access = yield from call(access, request, fetching(access, f"the manifest {name}"))
    said = digest_header(response)
    if said and said.hex != hashlib.new(said.algorithm, response.body).hexdigest():
        raise Invalid(f"{fetching(access, f'the manifest {name}')}: it was damaged or changed on its way: the registry calls it {said}")
    return Found(response.headers.get("content-type", ""), said, response.body), access


def head_manifest(access: Access, name: str) -> Conversation[tuple[Found, Access]]:
    """Ask for a manifest's digest and media type alone."""
    request = Request("HEAD", manifest_url(access, name), (("Accept", ACCEPT),))
    response, access = yield from call(access, request, fetching(access, f"the manifest {name}"))
    return Found(response.headers.get("content-type", ""), digest_header(response), b""), access


def get_blob(access: Access, digest: Digest, *, limit: int) -> Conversation[tuple[bytes, Access]]:
    """Fetch a small blob into memory. The caller verifies its digest."""
    request = Request("GET", blob_url(access, digest), limit=limit)
    response, access = yield from call(access, request, fetching(access, f"the blob {digest}"))
    return response.body, access


def open_blob(access: Access, digest: Digest, *, offset: int = 0, end: int = 0) -> Conversation[tuple[Response, Access]]:
    """Ask for a blob from `offset` on, up to before `end` (0 is its own end); the last response's body is left to be read.

    Its status is 206 where the registry goes on from `offset`, and 200 where it sends all.
    """
    headers = (("Range", f"bytes={offset}-{end - 1 if end else ''}"),) if offset or end else ()
    request = Request("GET", blob_url(access, digest), headers, stream=True)
    response, access = yield from call(access, request, fetching(access, f"the blob {digest}"))
    if response.status == 206 and not response.headers.get("content-range", "").startswith(f"bytes {offset}-"):
        raise Unavailable(f"downloading {digest}: the registry answered with another range than was asked for")
    return response, access


def manifest_url(access: Access, name: str) -> str:
    return f"{access.base}/v2/{access.repository}/manifests/{quote(name, safe=':')}"


def blob_url(access: Access, digest: Digest) -> str:
    return f"{access.base}/v2/{access.repository}/blobs/{digest}"


def digest_header(response: Response) -> Digest | None:
    text = response.headers.get("docker-content-digest", "")
    return parse_digest(text) if text else None


def fetching(access: Access, what: str) -> str:
    return f"fetching {what} of {place(access)}"


def place(access: Access) -> str:
    """What a user knows the repository as: HOST[:PORT]/REPOSITORY."""
    return f"{host_of(access.base)}/{access.repository}"


def call(access: Access, request: Request, doing: str, *, accepted: tuple[int, ...] = (200, 206)) -> Conversation[tuple[Response, Access]]:
    """Send a request, meeting one challenge and following redirects; raises by a final status that is not accepted."""
    response, access = yield from ask(access, request)
    if response.status in accepted:
        return response, access
    raise refusal(access, response, doing)


def ask(access: Access, request: Request) -> Conversation[tuple[Response, Access]]:
    """Send a request, meeting one challenge and following redirects; whatever its answer is."""
    response, asked = yield from _follow(access, request)
    if response.status == 401 and asked:
        access = yield from _authenticate(access, response.headers.get("www-authenticate", ""))
        response, _ = yield from _follow(access, request)
    return response, access


def _follow(access: Access, request: Request) -> Conversation[tuple[Response, bool]]:
    """Send a request and follow redirects; says too whether it was the registry itself that answered at last."""
    url = request.url
    for _ in range(_REDIRECTS_LIMIT):
        ours = origin_of(url) == origin_of(access.base)
        headers = request.headers
        if ours and access.authorization:
            headers = (*headers, ("Authorization", access.authorization.reveal()))
        response = yield request._replace(url=url, headers=headers)
        if response.status not in _REDIRECTS:
            return response, ours
        url = redirected(url, response.headers.get("location", ""))
    raise Unavailable(f"asking {host_of(access.base)}: it redirects over {_REDIRECTS_LIMIT} times")


def redirected(url: str, location: str) -> str:
    """Where an answer of `url` points to, absolute; raises Unavailable for what is no address, Denied for one without TLS."""
    target = urljoin(url, location)
    try:
        parts = urlsplit(target)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    except ValueError:
        usable = False
    if not location or not usable or any(character <= " " or character >= "\x7f" for character in target):
        raise Unavailable(f"asking {host_of(url)}: it redirects to {location[:200]!r}, which is no address for this")
    if parts.scheme == "http" and urlsplit(url).scheme == "https":
        if parts.netloc == urlsplit(url).netloc:  # a registry behind another's TLS, which does not know of it
            return f"https{target[4:]}"
        raise Denied(f"asking {host_of(url)}: it redirects from https to plain http ({host_of(target)}), which is refused")
    return target


def origin_of(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def host_of(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def refusal(access: Access, response: Response, where: str) -> BayplanError:
    """The error for an answer; `where` is what we were doing."""
    code, detail = _said(response.body)
    if response.status in (401, 403):
        return Denied(f"{where}: denied: the registry refuses{detail}; {_login_remedy(access)}")
    if response.status == 404 and code == "NAME_UNKNOWN":
        return NotFound(f"{where}: the repository {place(access)} does not exist there{detail}, or is hidden from this login")
    if response.status == 404:
        return NotFound(f"{where}: the registry does not have it{detail}; is the name right?")
    if response.status == 429:
        return Unavailable(f"{where}: the registry wants fewer requests{detail}; wait and try again")
    if response.status == 0:
        return Unavailable(f"{where}: {response.body.decode()}")
    return Unavailable(f"{where}: the registry answered with status {response.status}{detail}")


def _login_remedy(access: Access) -> str:
    if access.credential is None:
        return f"it wants a login: give a credential, or `bayplan login {host_of(access.base)}`"
    return f"{access.credential.username or 'this login'!r} may not do this: log in with another account"


def _said(body: bytes) -> tuple[str, str]:
    """What the registry says itself, its code and its words, shortened and on one line (distribution-spec, "Error Codes")."""
    try:
        first = json.loads(body)["errors"][0]
        code, text = f"{first.get('code')}", f"{first.get('message') or first.get('code')}"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return code, f" ({''.join(c if c.isprintable() else ' ' for c in text[:150])})"


def parse_challenges(header: str) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """Read a WWW-Authenticate header: schemes in lower case with their parameters (RFC 9110 section 11.6.1)."""
    found: list[tuple[str, Mapping[str, str]]] = []
    at = 0
    while len(header) < 1 << 14 and (scheme := _SCHEME.match(header, at)):
        at, parameters = scheme.end(), {}
        while parameter := _PARAMETER.match(header, at):
            value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
            parameters[parameter[1].lower()] = value
            at = parameter.end()
        found.append((scheme[1].lower(), parameters))
    return tuple(found)


def _authenticate(access: Access, header: str) -> Conversation[Access]:
    """Meet a challenge: with a token where the registry takes one, else with the password itself."""
    challenges = dict(reversed(parse_challenges(header)))
    if access.credential and access.credential.registry_token:
        return access._replace(authorization=Secret(f"Bearer {access.credential.registry_token.reveal()}"))
    if "bearer" in challenges:
        token = yield from _token(access, challenges["bearer"])
        return access._replace(authorization=Secret(f"Bearer {token}"))
    if "basic" in challenges and access.credential and access.credential.username:
        return access._replace(authorization=_basic(access.credential))
    if "basic" in challenges:
        raise Denied(f"asking {host_of(access.base)}: it wants a login, and there is none for it: give a credential")
    raise Denied(f"asking {host_of(access.base)}: it wants an authentication that bayplan does not know: {header[:100]!r}")


def _basic(credential: Credential) -> Secret:
    pair = f"{credential.username}:{credential.password.reveal()}".encode()
    return Secret(f"Basic {base64.b64encode(pair).decode()}")


def _token(access: Access, parameters: Mapping[str, str]) -> Conversation[str]:
    realm = _checked_realm(access, parameters.get("realm", ""))
    credential = _credential_for_realm(access, realm)
    scopes = [f"repository:{access.repository}:{access.actions}"] if access.repository else []  # who only logs in wants none
    scopes += [f"repository:{each}:pull" for each in access.also]
    query = [("service", parameters["service"])] if parameters.get("service") else []
    if credential and credential.identity_token:
        form = [*query, ("client_id", "bayplan"), ("grant_type", "refresh_token"), ("scope", " ".join(scopes))]
        body = urlencode([*form, ("refresh_token", credential.identity_token.reveal())]).encode()
        request = Request("POST", realm, (("Content-Type", "application/x-www-form-urlencoded"),), body, limit=TOKEN_LIMIT)
    else:
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode([*query, *(('scope', each) for each in scopes)])}"
        headers = (("Authorization", _basic(credential).reveal()),) if credential else ()
        request = Request("GET", url, headers, limit=TOKEN_LIMIT)
    response = yield request  # a redirect is not followed here: the request may carry the password
    if response.status != 200:
        raise _token_error(access, realm, credential, response)
    return _parse_token(realm, response.body)


def _token_error(access: Access, realm: str, credential: Credential | None, response: Response) -> BayplanError:
    where = f"getting a token for {access.repository or host_of(access.base)} from {host_of(realm)}"
    _, detail = _said(response.body)
    if response.status in (400, 401, 403):
        said = f"the name or the password of {credential.username!r} is wrong" if credential else "it wants a login: give a credential"
        return Denied(f"{where}: it refuses with status {response.status}{detail}; {said}")
    return Unavailable(f"{where}: it answered with status {response.status}{detail}")


def _parse_token(realm: str, body: bytes) -> str:
    try:
        document = json.loads(body)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        raise Unavailable(f"getting a token from {host_of(realm)}: its answer holds none")
    return token


def _checked_realm(access: Access, realm: str) -> str:
    try:
        parts = urlsplit(realm)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.username is None and parts.port != 0)
    except ValueError:
        usable = False
    if not usable or parts.fragment or any(character <= " " or character >= "\x7f" for character in realm):
        raise Invalid(f"asking {host_of(access.base)}: its token server {realm[:200]!r} is no address")
    if parts.scheme == "http" and urlsplit(access.base).scheme == "https":
        raise Denied(f"asking {host_of(access.base)}: its token server {host_of(realm)} is reached by plain http, which is refused")
    return realm


def _credential_for_realm(access: Access, realm: str) -> Credential | None:
    """The registry's credential where the realm is under the registry's own name, else the one that the realm has itself.

    Raises Denied where there is one, but the realm is somewhere else altogether.
    """
    registry, server = origin_of(access.base)[1], origin_of(realm)[1]
    own = dict(access.realm_credentials).get(host_of(realm))
    if own or access.credential is None:
        return own
    parent = registry.partition(".")[2]
    related = "." in parent and not _is_address(registry) and (server == parent or server.endswith(f".{parent}"))
    if server == registry or related or server.endswith(f".{registry}"):
        return access.credential
    raise Denied(
        f"asking {host_of(access.base)}: it sends the login to {host_of(realm)}, which is not under its name, so it was not sent; "
        f"if that is right, store the credential for {host_of(realm)} too"
    )


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
