"""RUN: a command in a sandbox on the layers so far; what it has written is the next layer."""

from __future__ import annotations

import os
import select
import stat
import time

from bayplan.build.draft import Draft, command_words
from bayplan.build.instructions import Inline, Run
from bayplan.engine import build_mounts, filters
from bayplan.engine.build_site import Site
from bayplan.engine.files import RESOLV_CONF
from bayplan.errors import BayplanError, Kernel
from bayplan.kernel import sandbox
from bayplan.kernel.rootfs import Overlay
from bayplan.model.container import Container
from bayplan.model.image import ImageConfig, Platform
from bayplan.model.runtime import Config, Mount
from bayplan.model.value import TYPE_CHECKING
from bayplan.plan import bundle, hostfiles
from bayplan.store import adoption, layers, merged, room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bayplan.engine.build_mounts import Given
    from bayplan.kernel.cgroups import Cgroup

HOSTNAME = "buildkitsandbox"  # what RUN sees with BuildKit: nothing of this host is to get into an image
SYSTEMD_RESOLVED = "/run/systemd/resolve/resolv.conf"  # the servers behind 127.0.0.53, which only the host reaches
_CHUNK = 1 << 16
_BETWEEN_LOOKS = 0.5  # seconds, in which a step can write a gigabyte: the reserve is what it then writes to
_MODES = {"default": "bridge", "none": "none", "host": "host"}


class Failed(BayplanError):
    """The command has ended with `status`, 128 + signal where a signal ended it."""

    kind = "failed"

    def __init__(self, status: int) -> None:
        super().__init__(f"the command ended with exit status {status}")
        self.status = status


def run(
    site: Site, draft: Draft, wanted: Run, *, variables: Mapping[str, str], given: Given, write: Callable[[bytes], None]
) -> str | None:
    """Run the command; the diff_id of the layer that it made, which may be one without files. `variables` are those beside the image's.

    Its output goes to `write` as it comes. Raises Failed, ProgramNotFound, ProgramRefused, Kernel; then there is no layer.
    """
    directory = site.step_directory()
    spec = _container(draft, wanted, variables)
    _write_host_files(directory, given, shared=wanted.network == "host")
    image = ImageConfig(Platform("linux", ""), ())
    joined = {"network": f"/proc/self/fd/{site.network()}"} if wanted.network == "default" else {}
    around = bundle.Surroundings(site.id, directory, f"/build-{site.id}", namespaces=joined)
    config = bundle.bundle(spec, image, around)
    mounts = build_mounts.mounts(site, draft, wanted.mounts, given)
    config = config._replace(mounts=(*config.mounts, *_programs(directory, wanted.inline), *mounts))
    stubs = _make_stubs(site, draft, config, directory)
    rootfs = site.overlay(draft.layers, directory, above=(stubs,))
    try:
        _execute(site, config, rootfs, write)
    finally:
        site.end_step()
    return str(adoption.adopt(site.state.root, rootfs.upper, epoch=site.epoch).diff_id)


def _container(draft: Draft, wanted: Run, variables: Mapping[str, str]) -> Container:
    return Container(
        name="build",
        image="",
        entrypoint=(),
        command=command_words(draft, wanted.command),
        environment=tuple({**variables, **draft.environment, "HOSTNAME": HOSTNAME}.items()),
        user=draft.user or None,
        working_dir=draft.directory,
        hostname=HOSTNAME,
        network_mode=_MODES[wanted.network],
        privileged=wanted.security == "insecure",
    )


def _programs(directory: str, inline: tuple[Inline, ...]) -> tuple[Mount, ...]:
    """Here-documents that are programs by their first line."""
    found = []
    for index, each in enumerate(inline):
        path = f"{directory}/program{index}"
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(each.content)
        os.chmod(path, 0o755)
        found.append(Mount(f"/dev/pipes/{each.name}", "bind", path, ("bind", "rprivate", "ro")))
    return tuple(found)


def _write_host_files(directory: str, given: Given, *, shared: bool) -> None:
    with open(RESOLV_CONF if os.path.exists(RESOLV_CONF) else os.devnull, encoding="utf-8", errors="surrogateescape") as file:
        resolvers = file.read()
    if not shared:
        resolvers = _reachable(resolvers)
    texts = {"hosts": hostfiles.hosts([], given.hosts, []), "hostname": f"{HOSTNAME}\n", "resolv.conf": resolvers}
    for name, text in texts.items():
        with open(f"{directory}/{name}", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(f"{directory}/{name}", 0o644)


def _reachable(text: str) -> str:
    """Of the host's resolvers those that another network namespace reaches."""
    servers, search, options = hostfiles.parse_resolv_conf(text)
    outside = [server for server in servers if not server.startswith("127.") and server != "::1"]
    if not outside and os.path.exists(SYSTEMD_RESOLVED):
        with open(SYSTEMD_RESOLVED, encoding="utf-8", errors="surrogateescape") as file:
            outside = list(hostfiles.parse_resolv_conf(file.read())[0])
    return hostfiles.resolv_conf(outside, search, options)


def _make_stubs(site: Site, draft: Draft, config: Config, directory: str) -> str:
    """A layer of the places that something is mounted on and the image does not have, so that making them is no change of the step's."""
    stubs, trees = f"{directory}/stubs", site.trees(draft.layers)
    os.mkdir(stubs, 0o755)
    os.chmod(stubs, 0o755)
    if trees:
        layers.copy_attributes(trees[0], stubs)
    destinations = [mount.destination for mount in config.mounts]
    for mount in sorted(config.mounts, key=lambda each: each.destination.count("/")):
        if any(mount.destination.startswith(f"{other}/") for other in destinations):
            continue  # it is made in that file system
        found = merged.look_up((f"{stubs}/.", *trees), mount.destination)
        if found.status is None:
            file = mount.type == "bind" and not os.path.isdir(mount.source)
            _make_stub(stubs, trees, found.path, file=file)
    return stubs


def _make_stub(stubs: str, trees: tuple[str, ...], path: str, *, file: bool) -> None:
    parts = path.split("/")
    for end in range(1, len(parts) + (0 if file else 1)):
        inner = "/".join(parts[:end])
        if not os.path.isdir(f"{stubs}/{inner}"):
            os.mkdir(f"{stubs}/{inner}", 0o755)
            os.chmod(f"{stubs}/{inner}", 0o755)
            below = merged.look_up(trees, inner) if trees else None
            if below and below.status and stat.S_ISDIR(below.status.st_mode):
                layers.copy_attributes(f"{below.tree}/{below.path}", f"{stubs}/{inner}")
    if file:
        os.close(os.open(f"{stubs}/{path}", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _output(reading: int, place: str) -> Iterator[bytes]:
    """What the step writes, until it ends; raises Full before what it puts into `place` has filled the disk."""
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    looked = 0.0
    while True:
        if time.monotonic() - looked >= _BETWEEN_LOOKS:
            room.check(place, "building")
            looked = time.monotonic()
        if waiting.poll(_BETWEEN_LOOKS * 1000):
            chunk = os.read(reading, _CHUNK)
            if not chunk:
                return
            yield chunk


def _execute(site: Site, config: Config, rootfs: Overlay, write: Callable[[bytes], None]) -> None:
    own: Cgroup = site.cgroup(config.linux.resources)
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        program = filters.program(site.state, config)
        created = sandbox.create(config, rootfs, cgroup=own, stdio=(null, writing, writing), seccomp=program)
        started = sandbox.start(created)
    finally:
        os.close(writing)
        os.close(null)
    try:
        for chunk in _output(reading, rootfs.upper):
            write(chunk)
    except BaseException:
        _kill(started.pid)
        raise
    finally:
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1])
        if started.pidfd >= 0:
            os.close(started.pidfd)
    if status:
        raise Failed(status if status > 0 else 128 - status)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)  # our own child, not reaped: the number cannot have been given to another
    except ProcessLookupError as error:
        raise Kernel("ending a build's command", error) from error
