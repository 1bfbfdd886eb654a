"""The conversation that lists what refers to an image: signatures, attestations.

Source: OCI distribution-spec 1.1, "Listing Referrers", and "Unavailable Referrers API": there a tag named by the digest has the list.
"""

from __future__ import annotations

from bayplan.model.digest import Digest
from bayplan.registry.protocol import ACCEPT, Access, Conversation, Request, call, fetching


def get_referrers(access: Access, digest: Digest) -> Conversation[tuple[bytes, Access]]:
    """The index of what refers to a manifest, its first page, unverified: nobody else knows its digest. b"" where there is none.

    Raises Denied, Unavailable, Invalid.
    """
    headers, what = (("Accept", ACCEPT),), fetching(access, f"the referrers of {digest}")
    url = f"{access.base}/v2/{access.repository}"
    for name in (f"referrers/{digest}", f"manifests/{digest.algorithm}-{digest.hex}"):
        response, access = yield from call(access, Request("GET", f"{url}/{name}", headers), what, accepted=(200, 404))
        if response.status == 200:
            return response.body, access
    return b"", access
