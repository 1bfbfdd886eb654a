"""The conversation that lists a repository's tags, page by page.

Source: OCI distribution-spec 1.1, "Listing Tags": `?n=` and `?last=`, and the Link header (RFC 8288) that names the next page.
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

from bayplan.errors import Invalid, Unavailable
from bayplan.model.document import load_object
from bayplan.model.image import MANIFEST_LIMIT
from bayplan.registry.protocol import Access, Conversation, Request, call, fetching, host_of, origin_of, place, redirected

_NEXT = re.compile(r'<([^>]{1,4000})>\s*(?:;[^,;]{0,200}){0,8};\s*rel="?next"?')
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_PAGES_LIMIT = 10_000


def list_tags(access: Access, *, limit: int, page: int = 0) -> Conversation[tuple[tuple[str, ...], Access]]:
    """The tags, at most `limit`, in the registry's order; `page` asks for so many at once, 0 for as many as it likes.

    Raises NotFound, Denied, Unavailable, Invalid; a registry whose pages never end, or bring nothing new, is Unavailable.
    """
    url = f"{access.base}/v2/{access.repository}/tags/list" + (f"?{urlencode({'n': page})}" if page else "")
    found: dict[str, None] = {}
    for _ in range(_PAGES_LIMIT):
        response, access = yield from call(access, Request("GET", url, limit=MANIFEST_LIMIT), fetching(access, "the tags"))
        before = len(found)
        found.update(dict.fromkeys(_parse(response.body, place(access))))
        following = _NEXT.search(response.headers.get("link", "")[:10_000])
        if len(found) >= limit or not following:
            return tuple(found)[:limit], access
        url = redirected(url, following[1])
        if len(found) == before or origin_of(url) != origin_of(access.base):
            break
    raise Unavailable(f"fetching the tags of {place(access)}: {host_of(access.base)} names a further page that brings nothing")


def _parse(data: bytes, where: str) -> tuple[str, ...]:
    tags = load_object(data, MANIFEST_LIMIT, f"the tags of {where}").strings("tags", limit=100_000) or ()
    for tag in tags:
        if not _TAG.match(tag):
            raise Invalid(f"reading the tags of {where}: {tag[:128]!r} is no tag")
    return tags
