"""A registry's repository as a place that images are copied from and to (engine/transfer.py)."""

from __future__ import annotations

from functools import partial

from bayplan.engine import policy
from bayplan.errors import Denied, Invalid
from bayplan.model.digest import Digest
from bayplan.model.image import Descriptor
from bayplan.model.reference import Reference
from bayplan.model.value import TYPE_CHECKING
from bayplan.registry.remote import Remote, ask, open_remote
from bayplan.store import blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bayplan.engine.transfer import Document, Read
    from bayplan.registry.http import Settings
    from bayplan.registry.protocol import Found
    from bayplan.registry.protocol_push import Content, Outcome


class RegistrySource:
    """An image at a registry, or at the first of its mirrors that has it, and that the host's policy wants. Raises Refused."""

    def __init__(self, reference: Reference, *, settings: Settings, auth: Mapping[str, str] | None = None) -> None:
        admission = policy.verify_pull(reference, settings.environment)
        question = partial(_find, reference=reference, admission=admission)
        self._found, self._remote = ask(reference, question, settings=settings, auth=auth)

    def top(self) -> tuple[bytes, str]:
        return self._found.data, self._found.media_type

    def document(self, descriptor: Descriptor) -> bytes:
        return self._remote.manifest(str(descriptor.digest)).data

    def pieces(self, descriptor: Descriptor, start: int, end: int) -> Iterator[memoryview]:
        """By a connection of its own: others may be reading in other processes."""
        remote = Remote(self._remote.access, self._remote.settings)
        try:
            yield from remote.download(descriptor.digest, descriptor.size, start=start, end=end)
        finally:
            remote.close()

    def close(self) -> None:
        self._remote.close()


def _find(remote: Remote, reference: Reference, admission: policy.Admission) -> Found:
    found = remote.manifest(str(reference.digest or reference.tag))
    digest = reference.digest or blobs.digest_of(found.data)
    blobs.verify(found.data, digest, what=f"the manifest of {reference}")
    policy.verify_digest(admission, remote, digest)
    return found


class RegistryTarget:
    """A repository that an image is pushed to, under the reference's tag, or digest.

    `mounts` tells for a blob which repositories of the same registry are known to have it; `also` are all that it may name.
    Raises Denied where the registry does not let us in, and Refused before any connection where the host's policy does not.
    """

    parallel = True

    def __init__(
        self,
        reference: Reference,
        *,
        settings: Settings,
        auth: Mapping[str, str] | None = None,
        mounts: Callable[[Digest], tuple[str, ...]] = lambda _: (),
        also: tuple[str, ...] = (),
    ) -> None:
        policy.verify_push(reference, settings)
        self.reference = reference
        self._mounts = mounts
        self._there: set[Digest] = set()
        self._remote = open_remote(reference, settings=settings, auth=auth, also=also)
        try:
            self._enter()
        except BaseException:
            self._remote.close()
            raise

    def _enter(self) -> None:
        """A token server may refuse all for a repository that we would only mount from."""
        try:
            self._remote.enter()
        except Denied:
            if not self._remote.access.also:
                raise
            self._remote.access = self._remote.access._replace(also=())
            self._remote.enter()

    def begin(self, documents: tuple[Document, ...], read: Read) -> None:
        top = documents[-1].descriptor.digest
        if self.reference.digest and self.reference.digest != top:
            raise Invalid(f"pushing {self.reference}: what is pushed has the digest {top}; give a tag instead")

    def has(self, document: Document) -> bool:
        if self._remote.has_manifest(document.descriptor.digest):
            self._there.add(document.descriptor.digest)
        return document.descriptor.digest in self._there

    def take(self, descriptor: Descriptor, content: Content) -> Outcome:
        remote = Remote(self._remote.access, self._remote.settings)
        try:
            return remote.push_blob(content, sources=self._mounts(descriptor.digest))
        finally:
            remote.close()

    def finish(self, documents: tuple[Document, ...]) -> None:
        for document in documents[:-1]:
            if document.descriptor.digest not in self._there:
                self._put(str(document.descriptor.digest), document)
        self._put(str(self.reference.digest or self.reference.tag), documents[-1])

    def _put(self, name: str, document: Document) -> None:
        self._remote.push_manifest(name, document.data, document.descriptor.media_type, document.descriptor.digest)

    def close(self) -> None:
        self._remote.close()
