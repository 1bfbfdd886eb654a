"""What ADD, and COPY of here-documents, take besides files of the context: archives to unpack, files of the web, git repositories."""

from __future__ import annotations

import os
import re
import stat

from bayplan.engine import build_content
from bayplan.engine.build_content import Source
from bayplan.engine.build_order import Order
from bayplan.errors import Invalid, Unavailable
from bayplan.kernel import paths
from bayplan.model.late import late
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bayplan.build.instructions import Copy, Inline
    from bayplan.engine.build_site import Site
    from bayplan.store import codecs, extraction
else:
    codecs = late("bayplan.store.codecs")
    extraction = late("bayplan.store.extraction")

_CHUNK = 1 << 20
_WEB = re.compile(r"https?://", re.IGNORECASE)
_GIT = re.compile(r"(git://|ssh://|git@[^/]+:|https?://[^#]+\.git(#|$))", re.IGNORECASE)
_PROTOCOLS = "https:http:git:ssh"
_TIMEOUT = 600


def is_remote(source: str) -> bool:
    return bool(_WEB.match(source) or _GIT.match(source))


def excluding(source: Source, wanted: Copy) -> Source | None:
    """The source without what --exclude names beneath it; None for a file that it names itself."""
    from bayplan.build import ignore

    patterns = ignore.parse_patterns(wanted.exclude, "--exclude")
    top = paths.open_in_root(source.root, source.path)
    try:
        is_directory = stat.S_ISDIR(os.fstat(top).st_mode)
    finally:
        os.close(top)
    if not is_directory:
        return None if patterns.excludes(os.path.basename(source.path)) else source
    begin = len(source.path) + 1 if source.path else 0
    return source._replace(excludes=lambda path: source.excludes(path) or patterns.excludes(path[begin:]), skips=_none)


def _none(path: str) -> bool:
    return False


def written(site: Site, inline: tuple[Inline, ...]) -> tuple[Source, ...]:
    """Here-documents as files: mode 0644, and of a time that is always the same."""
    found = []
    for each in inline:
        directory = site.step_directory()
        path = f"{directory}/{os.path.basename(each.name)}"
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(each.content)
        os.chmod(path, 0o644)
        os.utime(path, (site.epoch or 0, site.epoch or 0))
        found.append(Source(build_content.open_root(directory), os.path.basename(path), _none))
    return tuple(found)


def fetched(site: Site, wanted: Copy, remote: tuple[str, ...], others: tuple[Source, ...]) -> tuple[Source, ...]:
    """`others`, and what the web has at the addresses. Raises Unavailable, Invalid (the checksum)."""
    if wanted.checksum and (len(remote) != 1 or others):
        raise Invalid("--checksum is for one source, and that one of the web")
    return (*others, *(_repository(site, wanted, each) if _GIT.match(each) else _download(site, wanted, each) for each in remote))


def _download(site: Site, wanted: Copy, address: str) -> Source:
    import hashlib
    import urllib.error
    import urllib.request
    from email.utils import parsedate_to_datetime

    directory = site.step_directory()
    name = os.path.basename(address.partition("?")[0].partition("#")[0].rstrip("/"))
    if not name and not wanted.destination.rstrip("/"):
        raise Invalid(f"adding {address}: it has no file name; give one in the destination")
    path = f"{directory}/{name or 'download'}"
    found = hashlib.sha256()
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer, open(path, "wb") as file:
            while chunk := answer.read(_CHUNK):
                found.update(chunk)
                file.write(chunk)
            modified = answer.headers.get("Last-Modified")
    except (urllib.error.URLError, ValueError) as error:
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise Unavailable(f"adding {address}: {code}{getattr(error, 'reason', error)}") from error
    if wanted.checksum and wanted.checksum != f"sha256:{found.hexdigest()}":
        raise Invalid(f"adding {address}: its digest is sha256:{found.hexdigest()}, and --checksum says {wanted.checksum}")
    os.chmod(path, 0o600)
    try:
        when = parsedate_to_datetime(modified).timestamp() if modified else 0
    except (TypeError, ValueError):
        when = 0
    os.utime(path, (when, when))
    return Source(build_content.open_root(directory), os.path.basename(path), _none, unpack=wanted.unpack is True)


def _repository(site: Site, wanted: Copy, address: str) -> Source:
    """A checkout of one commit. git gets no configuration, no hooks and no helper of the repository's."""
    place, _, fragment = address.partition("#")
    reference, _, inner = fragment.partition(":")
    directory = f"{site.step_directory()}/tree"
    os.mkdir(directory, 0o755)
    os.chmod(directory, 0o755)
    _git("init", "--quiet", "--template=", directory)
    _git("-C", directory, "fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", place, reference or "HEAD")
    _git("-C", directory, "checkout", "--quiet", "--force", "FETCH_HEAD")
    if wanted.checksum and not _git("-C", directory, "rev-parse", "HEAD").startswith(wanted.checksum.rpartition(":")[2]):
        raise Invalid(f"adding {address}: the commit is another one than --checksum says")
    root = build_content.open_root(directory)
    return Source(root, inner.strip("/"), _none if wanted.keep_git else _is_git)


def _is_git(path: str) -> bool:
    return path == ".git" or path.startswith(".git/")


def _git(*words: str) -> str:
    import subprocess

    safe = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0",
                   "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": _PROTOCOLS}  # fmt: skip
    for name in ("SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"):
        if name in os.environ:
            environment[name] = os.environ[name]
    try:
        done = subprocess.run(["git", *safe, *words], capture_output=True, env=environment, stdin=subprocess.DEVNULL, timeout=_TIMEOUT)
    except FileNotFoundError:
        raise Unavailable("adding a git repository: git is not installed on this host") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"adding a git repository: git did not end within {_TIMEOUT} s") from None
    if done.returncode:
        raise Unavailable(f"adding a git repository: git: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")
    return done.stdout.decode()


def unpacked(site: Site, order: Order) -> Order:
    """With directories in place of the archives that are to be unpacked."""

    def unpack(source: Source) -> Source:
        if not source.unpack or not _is_archive(source):
            return source
        root = build_content.open_root(_unpack(site, source))
        return Source(root, "", _none, owned=True, attributes=(build_content.CAPABILITY,), archive=True)

    return order._replace(sources=tuple(map(unpack, order.sources)))


def extracted(site: Site, source: Source) -> str:
    """The directory that a context is: a checkout as it is, an archive unpacked; "" for any other file."""
    top = paths.open_in_root(source.root, source.path)
    try:
        if stat.S_ISDIR(os.fstat(top).st_mode):
            return os.readlink(f"/proc/self/fd/{top}")
    finally:
        os.close(top)
    return _unpack(site, source) if _is_archive(source) else ""


def _is_archive(source: Source) -> bool:
    """A file that is a tar archive, compressed or not, by its content."""
    head = next(chunks(source), b"")
    if codecs.compression(head):
        try:
            head = next(iter(codecs.decoder(codecs.compression(head))(chunks(source))), b"")
        except (Invalid, OSError):
            return False
    return head[257:262] == b"ustar" or (len(head) >= 512 and _is_old_header(head[:512]))


def _is_old_header(header: bytes) -> bool:
    """The checksum of a tar header is right (POSIX.1-1988 has no magic)."""
    text = header[148:156].strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]+", text) or header == bytes(512):
        return False
    return int(text, 8) == sum(header[:148]) + 8 * 32 + sum(header[156:])


def chunks(source: Source) -> Iterator[bytes]:
    """The content of a source that is a regular file; nothing of another one."""
    top = paths.open_in_root(source.root, source.path)
    try:
        if not stat.S_ISREG(os.fstat(top).st_mode):
            return
        file = os.open(f"/proc/self/fd/{top}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(top)
    try:
        while chunk := os.read(file, _CHUNK):
            yield chunk
    finally:
        os.close(file)


def _unpack(site: Site, source: Source) -> str:
    directory = f"{site.step_directory()}/tree"
    os.mkdir(directory, 0o755)
    room = os.statvfs(directory)
    running = extraction.start(directory, algorithm="sha256", room=room.f_bavail * room.f_frsize * 95 // 100)
    try:
        for chunk in chunks(source):
            running.feed(chunk)
        running.finish()
    finally:
        running.abort()
    return directory
