"""The conversation of a push, without a network: blobs that are there already or are mounted, uploads, manifests.

Source: OCI distribution-spec 1.1, "Pushing blobs" (monolithic, in chunks, mounting from another repository), "Resuming an upload",
"Pushing manifests". Where a connection breaks, the registry is asked how far it got, and the upload goes on from there; one that
it has forgotten begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote

from bayplan.errors import Invalid, Unavailable
from bayplan.model.digest import Digest
from bayplan.model.value import NamedTuple
from bayplan.registry.protocol import (
    ACCEPT,
    Access,
    Body,
    Conversation,
    Request,
    Response,
    ask,
    blob_url,
    call,
    digest_header,
    host_of,
    manifest_url,
    place,
    redirected,
    refusal,
)

WHOLE = 8 << 20  # bytes: up to here a blob is sent by one request
CHUNK = 64 << 20
_LEAST_CHUNK = 1 << 20
ATTEMPTS = 6
_MOUNTS = 3  # repositories that a blob is asked of
_PASSING = (0, 408, 429, 500, 502, 503, 504)
_OCTETS = ("Content-Type", "application/octet-stream")

EXISTS, MOUNTED, PUSHED = "exists", "mounted", "pushed"


class Content(NamedTuple):
    """A blob to be sent: `pieces(start, end)` gives its bytes from there to there, each piece valid until the next one.

    It may be asked again, for what it has given already, when a connection breaks.
    """

    digest: Digest
    size: int
    pieces: Callable[[int, int], Iterable[bytes | memoryview]]

    def body(self, start: int, end: int) -> Body:
        return Body(end - start, lambda: self.pieces(start, end))


class Outcome(NamedTuple):
    """How a blob came to be there: `how` is EXISTS, MOUNTED or PUSHED; `source` the repository that it was mounted from."""

    how: str
    source: str = ""


class _Upload(NamedTuple):
    """An upload that the registry has begun: its address now, how much it has, and the least that it wants at once."""

    url: str
    offset: int = 0
    least: int = 0


class _Tries(NamedTuple):
    """How often in a row nothing was got further, and what the registry last said of waiting."""

    failures: int = 0
    retry_after: str = ""

    def failed(self, response: Response) -> _Tries:
        return _Tries(self.failures + 1, response.headers.get("retry-after", ""))


def enter(access: Access) -> Conversation[Access]:
    """Be let in, so that what follows is not challenged each time; raises Denied (distribution-spec, "Determining Support")."""
    _, access = yield from call(access, Request("GET", f"{access.base}/v2/"), f"asking {host_of(access.base)}", accepted=(200, 404))
    return access


def has_blob(access: Access, digest: Digest) -> Conversation[tuple[bool, Access]]:
    response, access = yield from call(
        access, Request("HEAD", blob_url(access, digest)), f"asking {place(access)} for {digest}", accepted=(200, 404)
    )
    return response.status == 200, access


def push_blob(
    access: Access, content: Content, *, sources: tuple[str, ...] = (), whole: int = WHOLE, chunk: int = CHUNK
) -> Conversation[tuple[Outcome, Access]]:
    """Make sure that the repository has a blob: by looking, by mounting it from one of the repositories `sources`, by an upload.

    Blobs of up to `whole` bytes are sent by one request, others in chunks of `chunk` bytes. Raises Denied, NotFound, Invalid
    (the registry does not take it), Unavailable; what was uploaded without an end is swept by the registry.
    """
    found, access = yield from has_blob(access, content.digest)
    if found:
        return Outcome(EXISTS), access
    for source in sources[:_MOUNTS]:
        mounted, access = yield from _mount(access, content.digest, source)
        if mounted:
            return Outcome(MOUNTED, source), access
    tries = _Tries()
    while True:
        upload, access = yield from _begin(access, content, tries)
        send = _send_whole(access, content, upload) if content.size <= whole else _send_chunks(access, content, upload, chunk)
        done, access = yield from send
        if done.status == 201:
            return Outcome(PUSHED), access
        tries = tries.failed(done)
        if tries.failures >= ATTEMPTS or not _may_pass(done):
            raise _error(access, done, _doing(access, content))
        found, access = yield from has_blob(access, content.digest)  # perhaps only the answer was lost
        if found:
            return Outcome(PUSHED), access


def _doing(access: Access, content: Content) -> str:
    return f"pushing {content.digest} to {place(access)}"


def _may_pass(response: Response) -> bool:
    """Whether another attempt may do: trouble on the way, or an upload that the registry has forgotten."""
    return response.status in _PASSING or response.status in (404, 416)


def _error(access: Access, response: Response, doing: str) -> Exception:
    error = refusal(access, response, doing)
    if response.status in (400, 405, 413, 415):
        return Invalid(f"{error}; it does not take this")
    return error


def _mount(access: Access, digest: Digest, source: str) -> Conversation[tuple[bool, Access]]:
    """Ask for a blob of another repository; where the registry would rather have an upload, that one is given up."""
    url = f"{access.base}/v2/{access.repository}/blobs/uploads/?mount={quote(str(digest), safe=':')}&from={quote(source, safe='/')}"
    response, access = yield from ask(access, Request("POST", url))
    if response.status == 202 and response.headers.get("location"):
        _, access = yield from ask(access, Request("DELETE", redirected(url, response.headers["location"]), once=True))
    return response.status == 201, access


def _begin(access: Access, content: Content, tries: _Tries) -> Conversation[tuple[_Upload, Access]]:
    url = f"{access.base}/v2/{access.repository}/blobs/uploads/"
    request = Request("POST", url, failures=tries.failures, retry_after=tries.retry_after)
    response, access = yield from ask(access, request)
    if response.status != 202:
        raise _error(access, response, _doing(access, content))
    least = response.headers.get("oci-chunk-min-length", "")
    return _Upload(redirected(url, response.headers.get("location", "")), 0, int(least[:12]) if least.isdigit() else 0), access


def _finished(upload: _Upload, digest: Digest) -> str:
    """The address that ends an upload; the registry's own query is kept as it is. The answer may be slow: a registry may copy a large
    blob to its final place first."""
    return f"{upload.url}{'&' if '?' in upload.url else '?'}digest={quote(str(digest), safe=':')}"


def _send_whole(access: Access, content: Content, upload: _Upload) -> Conversation[tuple[Response, Access]]:
    body = content.body(0, content.size)
    request = Request("PUT", _finished(upload, content.digest), (_OCTETS,), body, once=True, slow=True)
    return (yield from ask(access, request))


def _send_chunks(access: Access, content: Content, upload: _Upload, chunk: int) -> Conversation[tuple[Response, Access]]:
    """Send what is missing, chunk by chunk; the last answer, which is 201 where all is well."""
    tries = _Tries()
    while upload.offset < content.size:
        end = min(content.size, upload.offset + max(chunk, upload.least))
        headers = (_OCTETS, ("Content-Range", f"{upload.offset}-{end - 1}"))
        response, access = yield from ask(access, Request("PATCH", upload.url, headers, content.body(upload.offset, end), once=True))
        if response.status == 413 and chunk > _LEAST_CHUNK:
            chunk //= 4  # something on the way bounds requests
        elif response.status not in (*_PASSING, 202, 416):
            return response, access
        if response.status == 202:
            upload, before = _advanced(upload, response, end), upload.offset
            tries = _Tries() if upload.offset > before else tries.failed(response)
        else:
            tries = tries.failed(response)
        if not tries.failures:
            continue
        if tries.failures >= ATTEMPTS:
            return response, access
        known, access = yield from _resumed(access, upload, tries)
        if known is None:
            return response._replace(status=404) if response.status == 416 else response, access
        upload, tries = known, _Tries() if known.offset > upload.offset else tries
    request = Request("PUT", _finished(upload, content.digest), (("Content-Length", "0"),), once=True, slow=True)
    return (yield from ask(access, request))


def _advanced(upload: _Upload, response: Response, end: int) -> _Upload:
    """Where the upload is after a chunk: the registry's word counts, which may be less than was sent."""
    return upload._replace(url=_moved(upload, response), offset=min(_received(response, end), end))


def _resumed(access: Access, upload: _Upload, tries: _Tries) -> Conversation[tuple[_Upload | None, Access]]:
    """How far an upload got, by the registry's own word; None where it knows nothing of it any more."""
    request = Request("GET", upload.url, failures=tries.failures, retry_after=tries.retry_after)
    response, access = yield from ask(access, request)
    if response.status != 204:
        return None, access
    return upload._replace(url=_moved(upload, response), offset=_received(response, upload.offset)), access


def _moved(upload: _Upload, response: Response) -> str:
    return redirected(upload.url, response.headers["location"]) if response.headers.get("location") else upload.url


def _received(response: Response, otherwise: int) -> int:
    """How many bytes the registry has, by its Range header (`0-99`, or `bytes=0-99`); distribution says `0-0` for none."""
    first, dash, last = response.headers.get("range", "").rpartition("=")[2].partition("-")
    if first != "0" or not dash or not last.isdigit():
        return otherwise
    return int(last[:15]) + 1 if last != "0" else 0


def push_manifest(access: Access, name: str, data: bytes, media_type: str, digest: Digest) -> Conversation[Access]:
    """Give the repository a manifest or an index under `name`, a tag or its digest, byte for byte. Raises as push_blob does.

    One that the registry calls by another digest was damaged on its way, and is sent again.
    """
    tries = _Tries()
    doing = f"pushing the manifest {name} to {place(access)}"
    while True:
        request = Request(
            "PUT",
            manifest_url(access, name),
            (("Content-Type", media_type),),
            data,
            failures=tries.failures,
            retry_after=tries.retry_after,
            slow=True,
        )
        response, access = yield from ask(access, request)
        if response.status != 201:
            raise _error(access, response, doing)
        said = digest_header(response)
        if not said or said == digest or said.algorithm != digest.algorithm:
            return access
        tries = tries.failed(response)
        if tries.failures >= ATTEMPTS:
            raise Unavailable(f"{doing}: the registry calls it {said}, and it is {digest}: it is damaged on its way")


def has_manifest(access: Access, digest: Digest) -> Conversation[tuple[bool, Access]]:
    """Whether the repository has exactly this manifest: then it has all that it refers to."""
    request = Request("HEAD", manifest_url(access, str(digest)), (("Accept", ACCEPT),))
    response, access = yield from call(access, request, f"asking {place(access)} for {digest}", accepted=(200, 404))
    return response.status == 200, access
