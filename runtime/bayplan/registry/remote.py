"""One repository at the place that answers for it: a mirror, or its own registry."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from bayplan.errors import BayplanError, Invalid, Unavailable
from bayplan.model.digest import Digest
from bayplan.model.reference import DEFAULT_REGISTRY, Reference
from bayplan.registry import credentials, protocol, protocol_push, protocol_referrers, protocol_tags
from bayplan.registry.http import Client, Settings, is_loopback
from bayplan.registry.mirrors import Endpoint, Registry, endpoints, parse_registries
from bayplan.registry.protocol import Access, Credential, Found, Request
from bayplan.registry.protocol_push import Content, Outcome

T = TypeVar("T")


class Remote:
    """A repository that can be asked. `access` is a value: another process makes a Remote of its own from it."""

    def __init__(self, access: Access, settings: Settings) -> None:
        self.access = access
        self.settings = settings
        self._client = Client(settings)

    def close(self) -> None:
        self._client.close()

    def manifest(self, name: str) -> Found:
        """The manifest called `name`, a tag or digest, unverified; raises NotFound, Denied, Unavailable."""
        found, self.access = self._client.converse(protocol.get_manifest(self.access, name))
        return found

    def head(self, name: str) -> Found:
        found, self.access = self._client.converse(protocol.head_manifest(self.access, name))
        return found

    def blob(self, digest: Digest, *, limit: int) -> bytes:
        """A small blob, unverified."""
        data, self.access = self._client.converse(protocol.get_blob(self.access, digest, limit=limit))
        return data

    def referrers(self, digest: Digest) -> bytes:
        """The index of what refers to a manifest, unverified; b"" where there is none."""
        data, self.access = self._client.converse(protocol_referrers.get_referrers(self.access, digest))
        return data

    def download(self, digest: Digest, size: int, *, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """A blob of `size` bytes, or its bytes from `start` to `end`, in pieces, unverified, each valid until the next one.

        Where the connection breaks it goes on from the byte where it broke; what had come before is not lost. Raises
        Unavailable when several attempts in a row bring nothing more.
        """
        end = size if end is None else end
        offset, failures = start, 0
        while offset < end:
            before = offset
            for piece in self._pieces(digest, offset, end, size):
                offset += len(piece)
                yield piece
            failures = 0 if offset > before else failures + 1
            if offset < end:
                if failures == self.settings.attempts:
                    raise Unavailable(f"downloading {digest}: the connection broke {failures} times at byte {offset} of {size}")
                self._client.pause(failures)

    def _pieces(self, digest: Digest, offset: int, end: int, size: int) -> Iterator[memoryview]:
        """What one connection brings from `offset` on, until `end` or until it breaks. More than was announced is the caller's to see."""
        response, self.access = self._client.converse(protocol.open_blob(self.access, digest, offset=offset, end=end if end < size else 0))
        skip = offset if response.status == 200 else 0  # it began again
        left = end - offset if end < size else -1
        try:
            for piece in self._client.body():
                skipped = min(skip, len(piece))
                skip -= skipped
                wanted = piece[skipped:] if left < 0 else piece[skipped : skipped + left]
                if wanted:
                    left -= len(wanted) if left > 0 else 0
                    yield wanted
                if left == 0:
                    return
        except Unavailable:
            return

    def enter(self) -> None:
        """Be let in: what follows is not challenged. Raises Denied."""
        self.access = self._client.converse(protocol_push.enter(self.access))

    def has_manifest(self, digest: Digest) -> bool:
        found, self.access = self._client.converse(protocol_push.has_manifest(self.access, digest))
        return found

    def push_blob(self, content: Content, *, sources: tuple[str, ...] = ()) -> Outcome:
        """Make sure that the repository has a blob; raises as protocol_push.push_blob does."""
        outcome, self.access = self._client.converse(protocol_push.push_blob(self.access, content, sources=sources))
        return outcome

    def push_manifest(self, name: str, data: bytes, media_type: str, digest: Digest) -> None:
        self.access = self._client.converse(protocol_push.push_manifest(self.access, name, data, media_type, digest))

    def tags(self, *, limit: int, page: int = 0) -> tuple[str, ...]:
        """The repository's tags, at most `limit`, in the registry's order; `page` asks for so many at once."""
        found, self.access = self._client.converse(protocol_tags.list_tags(self.access, limit=limit, page=page))
        return found


def ask(
    reference: Reference,
    question: Callable[[Remote], T],
    *,
    settings: Settings,
    auth: Mapping[str, str] | None = None,
    insecure: bool = False,
) -> tuple[T, Remote]:
    """Put a question to the first place that answers it: the mirrors in order, then the registry itself.

    Raises what the last one said: NotFound, Denied, Unavailable, Invalid. The caller closes the Remote.
    """
    places = endpoints(reference, read_registries(settings))
    for place in places[:-1]:
        try:
            return _ask_one(reference, place, question, settings, auth, insecure)
        except BayplanError:
            continue  # a mirror that does not do must not stop a pull
    return _ask_one(reference, places[-1], question, settings, auth, insecure)


def open_remote(
    reference: Reference,
    *,
    settings: Settings,
    actions: str = "pull,push",
    also: tuple[str, ...] = (),
    auth: Mapping[str, str] | None = None,
    insecure: bool = False,
) -> Remote:
    """The repository at its own registry, never at a mirror: what is pushed must be where its name says.

    `also` are repositories of the same registry whose blobs are to be mounted. The caller closes it. Raises Invalid, Denied
    (registries.conf blocks it), Unavailable.
    """
    place = endpoints(reference, read_registries(settings))[-1]
    remote = _open(reference, place, settings, auth, insecure)
    remote.access = remote.access._replace(actions=actions, also=also)
    return remote


def _open(reference: Reference, place: Endpoint, settings: Settings, auth: Mapping[str, str] | None, insecure: bool) -> Remote:
    if place.insecure or insecure:
        settings = settings._replace(insecure=settings.insecure | {place.location})
    own = place.location == reference.registry
    given = credentials.given(auth) if auth and own else None
    stored = None if given else credentials.find(place.location, place.repository, settings.environment)
    base = _base(place.location, settings)
    return Remote(Access(base, place.repository, given or stored, _for_realms(settings)), settings)


def _ask_one(
    reference: Reference,
    place: Endpoint,
    question: Callable[[Remote], T],
    settings: Settings,
    auth: Mapping[str, str] | None,
    insecure: bool,
) -> tuple[T, Remote]:
    remote = _open(reference, place, settings, auth, insecure)
    try:
        return question(remote), remote
    except BaseException:
        remote.close()
        raise


def _for_realms(settings: Settings) -> tuple[tuple[str, Credential], ...]:
    """Every stored credential by its key: one of them may be for a token server."""
    found: list[tuple[str, Credential]] = []
    for path in credentials.auth_files(settings.environment):
        found += credentials.stored(path)
    return tuple(reversed(found))


def _base(location: str, settings: Settings) -> str:
    """The address of a registry: https, but where plain HTTP is allowed and is what it speaks."""
    if location == DEFAULT_REGISTRY:
        return "https://registry-1.docker.io"
    allowed = location in settings.insecure or is_loopback(location.rpartition(":")[0] or location) or is_loopback(location)
    if not allowed or any(os.path.isdir(f"{each}/{location}") for each in settings.certificate_directories):
        return f"https://{location}"
    return f"http://{location}" if _speaks_plain(location, settings) else f"https://{location}"


def _speaks_plain(location: str, settings: Settings) -> bool:
    """Ask without TLS and without a credential. A server that wants TLS says 400 or just closes."""
    client = Client(settings._replace(attempts=1))
    try:
        return client.converse(_ping(location)) not in (400, 497)
    except (Unavailable, Invalid):
        return False
    finally:
        client.close()


def _ping(location: str) -> protocol.Conversation[int]:
    response = yield Request("GET", f"http://{location}/v2/")
    return response.status


def read_registries(settings: Settings) -> tuple[Registry, ...]:
    """The host's registries.conf and what lies beside it; where both speak of a prefix, the later file does. Raises Invalid."""
    main = settings.environment.get("CONTAINERS_REGISTRIES_CONF") or settings.registries_conf
    found: dict[str, Registry] = {}
    for path in (main, *sorted(glob.glob(f"{glob.escape(main)}.d/*.conf"))):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(2 << 20)
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(f"reading {path}: {error}") from error
        found.update({each.prefix: each for each in parse_registries(text, path=path)})
    return tuple(found.values())
