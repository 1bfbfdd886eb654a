"""RUN --mount: what a step sees that does not become part of a layer."""

from __future__ import annotations

import os

from bayplan.build import draft as drafts
from bayplan.build.instructions import Run, RunMount
from bayplan.errors import Denied, Invalid, NotFound
from bayplan.kernel import paths, tree
from bayplan.model.runtime import Mount
from bayplan.model.value import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bayplan.engine.build_site import Site

INSECURE, HOST_NETWORK = "security.insecure", "network.host"  # BuildKit's names
_ID_LIMIT = 200


class Given(NamedTuple):
    """What the caller of a build gives to its steps: secrets' content by id, sockets of ssh agents by id, the context's directory, where
    --from and from= find another stage, image or context (by its name: a directory, and what stands for its content in a key, "" where
    that is to be read), entitlements, the network of steps that name none, and lines for /etc/hosts."""

    secrets: Mapping[str, bytes] = {}
    agents: Mapping[str, str] = {}
    context: str = ""
    origin: Callable[[str], tuple[str, str]] = lambda name: ("", "")
    allowed: frozenset[str] = frozenset()
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()


def verify_entitled(wanted: Run, given: Given) -> None:
    """What reaches beyond the sandbox is the caller's to allow, not the Dockerfile's. Raises Denied."""
    if wanted.security == "insecure" and INSECURE not in given.allowed:
        raise Denied(f"RUN --security=insecure has all rights on this host; allow it with --allow {INSECURE}")
    if wanted.network == "host" and HOST_NETWORK not in given.allowed:
        raise Denied(f"RUN --network=host has this host's network; allow it with --allow {HOST_NETWORK}")


def mounts(site: Site, draft: drafts.Draft, wanted: tuple[RunMount, ...], given: Given) -> tuple[Mount, ...]:
    """Raises Invalid for one that cannot be, NotFound for a required one that is not given."""
    found = (_MAKE[each.type](site, draft, each, given) for each in wanted)
    return tuple(mount for mount in found if mount)


def _target(draft: drafts.Draft, wanted: RunMount) -> str:
    return drafts.working_directory(draft, wanted.target)


def _bind(site: Site, draft: drafts.Draft, wanted: RunMount, given: Given) -> Mount:
    top = given.origin(wanted.origin)[0] if wanted.origin else given.context
    if not wanted.readonly:  # what is written is thrown away, and is nobody else's
        top = site.scratch(top)
    options = ("rbind", "rprivate", "ro" if wanted.readonly else "rw")
    inner = os.path.normpath(f"/{wanted.source}").strip("/")
    if not inner:
        return Mount(_target(draft, wanted), "bind", top, options)
    return Mount(_target(draft, wanted), "bind", f"{top}/{inner}", options, beneath=top)


def _tmpfs(site: Site, draft: drafts.Draft, wanted: RunMount, given: Given) -> Mount:
    size = (f"size={wanted.size}",) if wanted.size else ()
    return Mount(_target(draft, wanted), "tmpfs", "tmpfs", ("nosuid", "nodev", *size))


def _cache(site: Site, draft: drafts.Draft, wanted: RunMount, given: Given) -> Mount:
    name = wanted.id or _target(draft, wanted)
    if len(name) > _ID_LIMIT or "\0" in name:
        raise Invalid(f"RUN --mount=type=cache: the id is longer than {_ID_LIMIT} characters")
    directory = site.cache_directory(name, sharing=wanted.sharing)
    if not os.listdir(directory):
        if wanted.origin:
            _fill(directory, given.origin(wanted.origin)[0], wanted.source)
        os.chmod(directory, int(wanted.mode or "755", 8))
        os.chown(directory, int(wanted.uid or 0), int(wanted.gid or 0))
    mode = "ro" if wanted.readonly else "rw"
    return Mount(_target(draft, wanted), "bind", directory, ("rbind", "rprivate", mode))


def _fill(directory: str, top: str, path: str) -> None:
    """A cache begins as a directory of a stage or an image."""
    root = paths.open_root(top)
    try:
        source = paths.open_in_root(root, path or "/", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise NotFound(f"RUN --mount=type=cache: {path or '/'} of the cache's origin: {error.strerror}") from error
    finally:
        os.close(root)
    tree.copy_directory(source, os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def _secret(site: Site, draft: drafts.Draft, wanted: RunMount, given: Given) -> Mount | None:
    name = wanted.id or os.path.basename(wanted.source or wanted.target)
    content = given.secrets.get(name)
    if content is None:
        if wanted.required:
            raise NotFound(f"RUN --mount=type=secret: no secret {name} is given; use --secret id={name},src=FILE")
        return None
    if wanted.environment and not wanted.target:
        return None  # build_stage puts it into the environment
    path = site.secret_file(content, mode=int(wanted.mode or "400", 8), uid=int(wanted.uid or 0), gid=int(wanted.gid or 0))
    return Mount(_target(draft, wanted._replace(target=wanted.target or f"/run/secrets/{name}")), "bind", path, ("bind", "rprivate", "ro"))


def _ssh(site: Site, draft: drafts.Draft, wanted: RunMount, given: Given) -> Mount | None:
    socket = given.agents.get(wanted.id or "default")
    if socket is None:
        if wanted.required:
            raise NotFound(f"RUN --mount=type=ssh: no agent {wanted.id or 'default'} is given; use --ssh {wanted.id or 'default'}[=SOCKET]")
        return None
    return Mount(agent_path(wanted), "bind", socket, ("bind", "rprivate", "rw"))


def agent_path(wanted: RunMount) -> str:
    """Where a step finds its agent's socket: SSH_AUTH_SOCK."""
    return wanted.target or "/run/buildkit/ssh_agent.0"


_MAKE = {"bind": _bind, "tmpfs": _tmpfs, "cache": _cache, "secret": _secret, "ssh": _ssh}
