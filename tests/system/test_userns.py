"""Containers with user ids of their own: root inside is nobody outside, and what is mounted has the ids that it should."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest
from engine_lab import Lab
from kernel_lab import needs

OWN = ("--userns", "private", "--network", "none")


def idmapped_layers() -> bool:
    release = os.uname().release.split(".")
    return (int(release[0]), int(release[1].split("-")[0])) >= (5, 19)


pytestmark = [
    pytest.mark.skipif(not idmapped_layers(), reason="layers with mapped ids need Linux 5.19"),
    needs("mount_setattr (Linux 5.12)"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    found = Lab(tmp_path_factory.mktemp("userns"))
    yield found
    found.close()


def ids(lab: Lab, name: str) -> tuple[int, ...]:
    pid = lab.run(name).pid
    return tuple(int(word) for word in pathlib.Path(f"/proc/{pid}/uid_map").read_text().split())


def test_root_inside_is_nobody_outside_and_each_container_has_a_range_of_its_own(lab: Lab) -> None:
    for name in ("one", "two"):
        lab.command("run", "-d", "--name", name, *OWN, "lab:1", "sleep", "1000")
    first, second = ids(lab, "one"), ids(lab, "two")
    assert first[0] == second[0] == 0 and first[2] == second[2] == 65536, "root and 65,535 more"
    assert abs(first[1] - second[1]) >= 65536, "no id belongs to two containers"
    status = pathlib.Path(f"/proc/{lab.run('one').pid}/status").read_text()
    assert f"Uid:\t{first[1]}" in status, "the host sees the mapped id"
    lab.command("rm", "-f", "one", "two")
    lab.command("run", "-d", "--name", "three", *OWN, "lab:1", "sleep", "1000")
    assert ids(lab, "three") == first, "a range is free again when its container has gone"
    lab.command("rm", "-f", "three")


def test_files_of_layers_volumes_and_binds_have_the_ids_inside_that_they_have_outside(lab: Lab, tmp_path: pathlib.Path) -> None:
    (tmp_path / "root").write_text("root's")
    (tmp_path / "user").write_text("user's")
    (tmp_path / "root").chmod(0o600)
    os.chown(tmp_path / "user", 1000, 1001)
    said = lab.command(
        "run", "--rm", *OWN, "-v", f"{tmp_path}:/bind", "-v", "kept:/volume", "lab:1", "sh", "-c",
        "busybox stat -c %u:%g /bin/busybox /bind/root /bind/user; cat /bind/root; "
        "echo x > /bind/made; chown 7:8 /bind/made; echo y > /volume/made",
    )  # fmt: skip
    assert said.split() == ["0:0", "0:0", "1000:1001", "root's"], "as on the host"
    made = (tmp_path / "made").stat()
    assert (made.st_uid, made.st_gid) == (7, 8), "what the container gives away belongs to whom it said"
    assert (
        lab.command("run", "--rm", "--network", "none", "-v", "kept:/v", "lab:1", "busybox", "stat", "-c", "%u", "/v/made").strip() == "0"
    )


def test_root_inside_has_no_power_over_the_host(lab: Lab) -> None:
    script = """
        echo core > /proc/sys/kernel/core_pattern; mknod /tmp/disk b 8 0; hostname elsewhere; hostname
        mount -t tmpfs none /tmp && echo mounted; echo 1 > /proc/sys/kernel/sysrq; kill -9 1 || true; date -s 2001-01-01
    """
    before = pathlib.Path("/proc/sys/kernel/core_pattern").read_text(), os.uname().nodename
    said = lab.command(
        "run", "--rm", *OWN, "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "lab:1", "sh", "-c", script + "true"
    )
    assert "elsewhere" in said and "mounted" in said, f"with all capabilities it is root in its own namespaces: {said}"
    assert (pathlib.Path("/proc/sys/kernel/core_pattern").read_text(), os.uname().nodename) == before, "and not in the host's"


def test_another_process_enters_as_the_same_root(lab: Lab) -> None:
    lab.command("run", "-d", "--name", "box", *OWN, "lab:1", "sleep", "1000")
    assert lab.command("exec", "box", "sh", "-c", "id -u; busybox stat -c %u /proc/1; echo said > /dev/stdout").split() == [
        "0",
        "0",
        "said",
    ]
    lab.command("rm", "-f", "box")


def test_the_network_of_such_a_container_is_there_and_its_own(lab: Lab) -> None:
    said = lab.command(
        "run", "--rm", "--userns", "private", "--cap-add", "NET_ADMIN", "lab:1", "sh", "-c", "ip link set lo down; ip -o link"
    )
    assert "eth0" in said and "lo" in said, "it has the interfaces that it was given, and may change them"


@pytest.mark.parametrize("option", [("--network", "host"), ("--pid", "host"), ("--ipc", "host"), ("--privileged",)])
def test_what_belongs_to_the_hosts_user_namespace_is_refused(lab: Lab, option: tuple[str, ...]) -> None:
    assert "exclude each other" in lab.command("run", "--rm", "--userns", "private", *option, "lab:1", "true", status=125)
