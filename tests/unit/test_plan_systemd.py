"""What a container gets whose first process is systemd."""

from __future__ import annotations

import pytest

from bayplan.model.container import Container
from bayplan.model.image import ImageConfig, Platform
from bayplan.model.runtime import Config, Mount, Process, Root
from bayplan.plan import systemd

IMAGE = ImageConfig(Platform("linux", "amd64"), (), cmd=("/sbin/init",))
CGROUP = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro",))


def container(**fields: object) -> Container:
    return Container(name="c", image="i")._replace(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "image", "expected"),
    [
        (container(), IMAGE, True),
        (container(command=("/lib/systemd/systemd", "--unit=x")), IMAGE, True),
        (container(command=("sleep", "1")), IMAGE, False),
        (container(command=("/opt/init",)), IMAGE, False),
        (container(systemd="false"), IMAGE, False),
        (container(systemd="always", command=("/opt/init",)), IMAGE, True),
    ],
)
def test_it_is_known_by_its_command_or_by_what_is_declared(spec: Container, image: ImageConfig, expected: bool) -> None:
    assert systemd.wanted(spec, image) == expected


@pytest.mark.parametrize(
    ("spec", "image", "expected"),
    [
        (container(), IMAGE, "SIGRTMIN+3"),
        (container(), IMAGE._replace(stop_signal="SIGPWR"), "SIGPWR"),
        (container(stop_signal="SIGINT"), IMAGE, "SIGINT"),
        (container(systemd="false"), IMAGE, "SIGTERM"),
    ],
)
def test_it_is_stopped_by_its_own_word_for_a_halt_unless_another_is_declared(spec: Container, image: ImageConfig, expected: str) -> None:
    assert systemd.stop_signal(spec, image) == expected


def config(*mounts: Mount, env: tuple[str, ...] = ()) -> Config:
    return Config(Process(("/sbin/init",), env), Root("/"), mounts=(CGROUP, *mounts))


def test_its_places_are_in_memory_and_keep_what_the_image_has_there() -> None:
    prepared = systemd.prepare(config(), "a" * 64, hierarchy=True)
    places = {mount.destination: mount for mount in prepared.mounts if mount.type == "tmpfs"}
    assert list(places) == ["/run", "/run/lock", "/tmp", "/var/log/journal"], "Podman's four"
    assert all({"tmpcopyup", "nosuid", "nodev"} <= set(mount.options) for mount in places.values())
    assert prepared.mounts[-1].destination == "/sys/fs/cgroup/systemd" and "ro" not in prepared.mounts[-1].options, "its own cgroups"
    assert prepared.process.env == ("container=bayplan", f"container_uuid={'a' * 32}"), "told that it is in a container, and which"


def test_what_is_declared_there_stays_and_lies_over_it() -> None:
    inner, run = Mount("/tmp/x", "bind", "/x"), Mount("/run", "bind", "/r")
    prepared = systemd.prepare(config(inner, run, env=("container=other",)), "b" * 64, hierarchy=False)
    order = [mount.destination for mount in prepared.mounts[1:]]
    assert order == ["/run", "/run/lock", "/tmp", "/var/log/journal", "/tmp/x"], "what lies beneath one of them comes after it"
    assert prepared.mounts[1] is run and "container=other" in prepared.process.env, "nothing declared is replaced"
