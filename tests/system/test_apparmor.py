"""AppArmor profiles that the kernel really has: what `process.apparmorProfile` makes of a container's processes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from oci_lab import executable
from sandbox_lab import Box, end, run_in

from bayplan.errors import Kernel

ENABLED = pathlib.Path("/sys/module/apparmor/parameters/enabled")
NAME = f"bayplan-test{os.getpid()}"
SHOW = ("cat", "/proc/self/attr/current")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts"),
    pytest.mark.skipif(not ENABLED.exists() or ENABLED.read_text() != "Y\n", reason="this kernel runs without AppArmor"),
    pytest.mark.skipif(not shutil.which("apparmor_parser"), reason="apparmor_parser is not installed (Debian: apparmor)"),
]

# What Docker loads as docker-default, in its main lines: https://github.com/moby/profiles, apparmor/template.go
DEFAULT = f"""
profile {NAME}-default flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer={NAME}-default,
  deny @{{PROC}}/* w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,
  deny mount,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  ptrace (trace,read,tracedby,readby) peer={NAME}-default,
}}
"""
# Only what it names: neither the runtime's own program nor the descriptor that it is executed from is there. What enters a container
# tells over a socket that it is there.
NARROW = f"""
profile {NAME}-narrow {{
  /bin/** rix,
  /proc/** r,
  /dev/** rw,
  /tmp/free rw,
  capability dac_override,
  unix,
  signal (receive) peer=unconfined,
}}
"""
COMPLAINING = f"profile {NAME}-complaining flags=(complain) {{ /bin/** rix, }}\n"


@pytest.fixture(scope="module")
def profiles() -> Iterator[None]:
    text = "@{PROC}=/proc/\n" + DEFAULT + NARROW + COMPLAINING
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache"], input=text, text=True, check=True)
    yield
    subprocess.run(["apparmor_parser", "--remove"], input=text, text=True, check=True)


@pytest.fixture
def box(tmp_path: pathlib.Path, profiles: None) -> Box:
    made = Box(tmp_path)
    (made.layer / "etc" / "secret").write_text("secret\n")
    (made.layer / "tmp").mkdir()
    return made


@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("init", [False, True])
def test_a_process_runs_under_its_profile(box: Box, init: bool, no_new_privileges: bool) -> None:
    for name in ("default", "narrow"):
        ended = box.run(*SHOW, apparmor_profile=f"{NAME}-{name}", init=init, no_new_privileges=no_new_privileges)
        assert ended == (0, f"{NAME}-{name} (enforce)\n"), "with an init or without, whatever it may gain"
    assert box.run(*SHOW, apparmor_profile=f"{NAME}-complaining").output == f"{NAME}-complaining (complain)\n", "one that only logs"
    assert box.run(*SHOW, apparmor_profile="unconfined").output == "unconfined\n" == box.run(*SHOW).output, "none"


def test_a_profile_denies_what_it_does_not_name(box: Box) -> None:
    script = """
    cat /etc/secret; echo x > /tmp/free && echo written; echo x > /tmp/other; chown 1:1 /tmp/free
    """
    assert box.run("sh", "-c", "cat /etc/secret; touch /tmp/free; chown 1:1 /tmp/free").output == "secret\n", "root may do all of it"
    said = box.run("sh", "-c", script, apparmor_profile=f"{NAME}-narrow").output.splitlines()
    assert "/etc/secret" in said[0] and "Permission denied" in said[0], "a file to read"
    assert said[1] == "written", "but not what it names"
    assert "/tmp/other" in said[2] and "Permission denied" in said[2], "a file to write"
    assert "/tmp/free" in said[3] and "Operation not permitted" in said[3], "a capability that the container has"


def test_the_profile_that_docker_has_keeps_root_from_the_host(box: Box) -> None:
    bare: dict[str, Any] = {"masked_paths": (), "readonly_paths": ()}
    script = "echo 1 > /proc/sys/vm/drop_caches; cat /proc/sysrq-trigger; ls /sys/firmware/acpi; mount -t tmpfs x /tmp; cat /etc/secret"
    said = box.run("sh", "-c", script, linux=bare, apparmor_profile=f"{NAME}-default").output.splitlines()
    assert len(said) == 5 and all("denied" in line for line in said[:4]), f"though no path is masked: {said}"
    assert said[4] == "secret", "and it may do the rest"


def test_a_process_that_enters_a_container_has_the_profile_that_it_is_given(box: Box) -> None:
    started = box.background("sleep", "100", apparmor_profile=f"{NAME}-default")
    try:
        assert run_in(started.pid, *SHOW, apparmor_profile=f"{NAME}-narrow").output == f"{NAME}-narrow (enforce)\n"
        assert run_in(started.pid, *SHOW).output == "unconfined\n", "which may be none"
    finally:
        end(started)


def test_a_profile_that_is_not_loaded_is_an_error_that_names_it(box: Box) -> None:
    with pytest.raises(Kernel, match=r"setting process\.apparmorProfile absent \(is that profile loaded\?\): No such file or directory"):
        box.run("true", apparmor_profile="absent")


def test_a_container_cannot_leave_its_profile(box: Box) -> None:
    script = """
    echo changeprofile unconfined > /proc/self/attr/current; echo exec unconfined > /proc/self/attr/exec; cat /proc/self/attr/current
    """
    said = box.run("sh", "-c", script, apparmor_profile=f"{NAME}-narrow").output
    assert said.endswith(f"{NAME}-narrow (enforce)\n"), f"neither now nor with the next program: {said}"


def test_the_oci_runtime_and_its_exec_have_the_profile_of_the_configuration(box: Box) -> None:
    bundle = box.directory / "bundle"
    bundle.mkdir()
    program = executable(box.directory)

    def oci(*words: str) -> subprocess.CompletedProcess[str]:
        command = [program, "--root", box.directory / "oci", *words]
        return subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=120, check=False)

    def run(profile: str, *args: str, detach: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        document["process"].update(apparmorProfile=profile, args=args, terminal=False, env=["PATH=/bin"])
        (bundle / "config.json").write_text(json.dumps(document))
        return oci("run", *detach, NAME)

    assert oci("spec").returncode == 0, "there is a configuration to start from"
    document = json.loads((bundle / "config.json").read_text())
    document["root"] = {"path": str(box.layer)}
    assert run(f"{NAME}-default", *SHOW).stdout == f"{NAME}-default (enforce)\n", "what process.apparmorProfile says"
    refused = run("absent", "true")
    assert refused.returncode == 1 and "process.apparmorProfile absent (is that profile loaded?)" in refused.stderr, "an error's whole line"
    assert oci("state", NAME).returncode == 1, "of which nothing is left"
    idle = ("sh", "-c", "exec sleep 100 > /dev/null 2>&1")  # it would hold on to the pipes that are read here
    assert run(f"{NAME}-default", *idle, detach=("--detach",)).returncode == 0, "it runs"
    try:
        assert oci("exec", NAME, *SHOW).stdout == f"{NAME}-default (enforce)\n", "the container's"
        assert oci("exec", "--apparmor", f"{NAME}-narrow", NAME, *SHOW).stdout == f"{NAME}-narrow (enforce)\n", "its own"
    finally:
        assert oci("delete", "--force", NAME).returncode == 0
