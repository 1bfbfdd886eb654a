"""HTTP to registries: connections, TLS, proxies, and trying again. The only file of registry/ that touches the network.

Sources: RFC 9110; Docker's and Podman's layout of certs.d (`HOST[:PORT]/*.crt` are authorities, `NAME.cert` with
`NAME.key` a client's certificate); HTTPS_PROXY, HTTP_PROXY and NO_PROXY as curl(1) and Go read them.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

from bayplan.errors import Invalid, Unavailable
from bayplan.model.value import NamedTuple
from bayplan.registry.protocol import Body, Request, Response

T = TypeVar("T")

SECONDS = 30.0  # without a byte
ATTEMPTS = 6
_ATTEMPTS_TO_FIND = 3  # where nobody listens, or the name is unknown
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_SLOW = 20  # times as patient where a registry may have much to do
_AGAIN = (408, 429, 500, 502, 503, 504)
_BUFFER = 1 << 20


class Settings(NamedTuple):
    """What of the host decides how registries are reached."""

    environment: Mapping[str, str]
    certificate_directories: tuple[str, ...] = ("/etc/containers/certs.d", "/etc/docker/certs.d")
    registries_conf: str = "/etc/containers/registries.conf"
    insecure: frozenset[str] = frozenset()  # HOST[:PORT]s that may speak plain HTTP, or TLS that proves nothing
    attempts: int = ATTEMPTS
    first_pause: float = _FIRST_PAUSE
    seconds: float = SECONDS


class Proxy(NamedTuple):
    host: str
    port: int
    authorization: str


class _Broken(Exception):
    """The connection did not do; another attempt may, within `attempts` in all."""

    def __init__(self, reason: str, attempts: int) -> None:
        self.attempts = attempts
        super().__init__(reason)


class Client:
    """Talks to registries on behalf of one conversation after another. Keeps one connection per origin; not for threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}
        self._streaming: tuple[http.client.HTTPConnection, http.client.HTTPResponse] | None = None

    def converse(self, conversation: Generator[Request, Response, T]) -> T:
        """Play a conversation of registry/protocol.py to its end, and return what it found out."""
        try:
            request = next(conversation)
            while True:
                request = conversation.send(self._answer(request))
        except StopIteration as stop:
            found: T = stop.value
            return found

    def _answer(self, request: Request) -> Response:
        """One request's answer, after as many attempts as it takes; raises Unavailable after the last one."""
        if request.failures:
            self.pause(request.failures - 1, request.retry_after)
        if request.once:
            try:
                return self._once(request)
            except _Broken as error:
                return Response(0, {}, str(error).encode())
        for attempt in range(self._settings.attempts):
            last = attempt + 1 == self._settings.attempts
            try:
                response = self._once(request)
            except _Broken as error:
                if last or attempt + 1 >= error.attempts:
                    raise Unavailable(f"asking {urlsplit(request.url).netloc}: {error}") from error
                self.pause(attempt)
                continue
            if response.status not in _AGAIN or last:
                return response
            self.abandon()
            self.pause(attempt, response.headers.get("retry-after", ""))
        raise AssertionError("there is at least one attempt")

    def pause(self, attempt: int, retry_after: str = "") -> None:
        """Wait before another attempt: doubling, with jitter, or as long as the registry says, within a minute."""
        seconds = self._settings.first_pause * 2**attempt * random.uniform(0.75, 1.25)
        if retry_after.isdigit():
            seconds = max(seconds, float(retry_after[:6]))
        time.sleep(min(seconds, _LONGEST_PAUSE))

    def _once(self, request: Request) -> Response:
        self.abandon()
        connection, origin = self._connection(request.url)
        headers = dict(request.headers)
        headers.setdefault("Accept-Encoding", "identity")
        headers.setdefault("User-Agent", "bayplan")
        if request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(request.body.size if isinstance(request.body, Body) else len(request.body))
        connection.timeout = self._settings.seconds * (_SLOW if request.slow else 1)
        if connection.sock:
            connection.sock.settimeout(connection.timeout)
        try:
            _send(connection, request, self._target(request.url), headers)
            return self._received(request, connection, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            cut_off = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) and isinstance(connection.sock, ssl.SSLSocket)
            self._forget(origin)
            if isinstance(error, ssl.SSLError) and not cut_off:
                _raise_untrusted(request.url, error)
            finding = isinstance(error, (ConnectionRefusedError, socket.gaierror))
            raise _Broken(_reason(error), _ATTEMPTS_TO_FIND if finding else self._settings.attempts) from error
        except BaseException:
            self._forget(origin)  # the body's source broke off: the rest of the request will never come
            raise

    def _received(self, request: Request, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Response:
        headers: dict[str, str] = {}
        for name, value in answer.getheaders():  # of one name there may be several, which mean the same as a list
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        if request.stream and answer.status in (200, 206):
            self._streaming = connection, answer
            return Response(answer.status, headers)
        data = answer.read(request.limit + 1) if request.method != "HEAD" else b""
        if len(data) > request.limit and answer.status == 200:
            raise Invalid(f"asking {urlsplit(request.url).netloc}: its answer is over the limit of {request.limit} bytes")
        announced = headers.get("content-length", "")
        if request.method != "HEAD" and announced.isdigit() and len(data) < min(int(announced), request.limit + 1):
            raise http.client.IncompleteRead(data)
        if not answer.isclosed():
            answer.close()
            connection.close()
        return Response(answer.status, headers, data)

    def body(self) -> Iterator[memoryview]:
        """The streamed body of the last answer, in pieces that are valid until the next one; raises Unavailable if it breaks."""
        assert self._streaming, "no streamed answer"
        answer = self._streaming[1]
        buffer = memoryview(bytearray(_BUFFER))
        while True:
            try:
                count = answer.readinto(buffer)
            except (OSError, http.client.HTTPException) as error:
                self.abandon()
                raise Unavailable(f"downloading: {_reason(error)}") from error
            if not count:
                return
            yield buffer[:count]

    def abandon(self) -> None:
        """Give up the streamed answer, if there is one; what of it was not read is lost with its connection."""
        if self._streaming:
            connection, answer = self._streaming
            if not answer.isclosed():
                connection.close()
            self._streaming = None

    def close(self) -> None:
        self.abandon()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, tuple[str, str]]:
        parts = urlsplit(url)
        origin = parts.scheme, parts.netloc
        if origin not in self._connections:
            self._connections[origin] = _connect(url, self._settings)
        return self._connections[origin], origin

    def _forget(self, origin: tuple[str, str]) -> None:
        with contextlib.suppress(OSError):
            self._connections.pop(origin).close()

    def _target(self, url: str) -> str:
        """What follows the method: the whole address where a proxy fetches it for us, else its path."""
        parts = urlsplit(url)
        if parts.scheme == "http" and proxy_for(url, self._settings.environment):
            return url
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _send(connection: http.client.HTTPConnection, request: Request, target: str, headers: Mapping[str, str]) -> None:
    """A server that refuses a body need not read it: what it has answered is there although sending broke."""
    body = _exactly(request.body) if isinstance(request.body, Body) else request.body or None
    try:
        connection.request(request.method, target, body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        if not isinstance(request.body, Body):
            raise


def _exactly(body: Body) -> Iterator[bytes | memoryview]:
    """The body's pieces; raises Unavailable where they are more or fewer than announced, since the answer would never come."""
    left = body.size
    for piece in body.pieces():
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise Unavailable(f"sending {body.size} bytes: their source gave {body.size - left}")


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke in the middle of an answer"
    if isinstance(error, http.client.HTTPException):
        return f"it does not answer as HTTP ({type(error).__name__})"
    return f"the connection does not work ({error})"


def _raise_untrusted(url: str, error: ssl.SSLError) -> NoReturn:
    host = urlsplit(url).netloc
    if not isinstance(error, ssl.SSLCertVerificationError):
        remedy = "if it speaks plain HTTP, say `insecure = true` for it in /etc/containers/registries.conf"
        raise Unavailable(f"asking {host}: there is no TLS connection with it ({error.reason or error}); {remedy}") from error
    raise Unavailable(
        f"asking {host}: its certificate is not trusted ({error.verify_message}); "
        f"put the authority's certificate into /etc/containers/certs.d/{host}/ca.crt"
    ) from error


def _connect(url: str, settings: Settings) -> http.client.HTTPConnection:
    """A connection that is opened by its first request."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    proxy = proxy_for(url, settings.environment)
    if parts.scheme == "http":
        there = (proxy.host, proxy.port) if proxy else (host, port)
        connection = http.client.HTTPConnection(*there, timeout=SECONDS)
        if proxy and proxy.authorization:
            _always_send(connection, "Proxy-Authorization", proxy.authorization)
        return connection
    location = parts.netloc.rpartition("@")[2]
    context = tls_context(location, settings.certificate_directories, verified=location not in settings.insecure)
    if not proxy:
        return http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    tunnel = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=SECONDS, context=context)
    tunnel.set_tunnel(host, port or 443, {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {})
    return tunnel


def _always_send(connection: http.client.HTTPConnection, name: str, value: str) -> None:
    plain: Callable[..., None] = connection.endheaders

    def endheaders(message_body: object = None, *, encode_chunked: bool = False) -> None:
        connection.putheader(name, value)
        plain(message_body, encode_chunked=encode_chunked)

    connection.endheaders = endheaders  # type: ignore[method-assign]


def tls_context(location: str, directories: tuple[str, ...], *, verified: bool = True) -> ssl.SSLContext:
    """What is trusted for HOST[:PORT], and what we show of ourselves. Raises Invalid for files that are none."""
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # From Python 3.13 on, an authority's certificate must say more of itself than other clients, and older Pythons, ask for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    for directory in directories:
        for name in _names(f"{directory}/{location}"):
            path = f"{directory}/{location}/{name}"
            try:
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path[: -len(".cert")] + ".key")
            except (OSError, ssl.SSLError) as error:
                raise Invalid(f"reading the certificate {path}: it, or its key beside it, cannot be used ({error})") from error
    return context


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def proxy_for(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for an address; raises Invalid if it cannot be used."""
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name) or environment.get(name.upper()) or ""
    if not proxy or _is_direct(parts.hostname or "", parts.port, environment):
        return None
    return _parse_proxy(proxy if "://" in proxy else f"http://{proxy}", name.upper())


def _parse_proxy(text: str, name: str) -> Proxy:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme != "http":
        raise Invalid(f"reading {name}: it is not http://HOST:PORT (a proxy that is itself reached by {parts.scheme} is not supported)")
    if parts.username is None:
        return Proxy(host, port or 80, "")
    import base64

    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or 80, f"Basic {base64.b64encode(pair.encode()).decode()}")


def _is_direct(host: str, port: int | None, environment: Mapping[str, str]) -> bool:
    """Whether NO_PROXY exempts a host; loopback always is exempt, as in Go."""
    if is_loopback(host):
        return True
    listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return any(_exempts(each.strip().lower(), host.lower(), port) for each in listed.split(",") if each.strip())


def _exempts(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if address is not None:
        with contextlib.suppress(ValueError):
            return address in ipaddress.ip_network(entry, strict=False)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and "]" not in wanted:
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    return host == entry.lstrip(".") or host.endswith(f".{entry.lstrip('*').lstrip('.')}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is the machine itself by its form alone."""
    address = _address(host.strip("[]"))
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)
