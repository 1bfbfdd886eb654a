"""Devices by their CDI name, given to containers for real: the host's directories, nodes, mounts, variables, hooks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import IMAGE, Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces and mounts")
VENDOR = f"test{os.getpid()}.example"
ETC, RUN = Path("/etc/cdi"), Path("/var/run/cdi")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("cdi"))
    yield made
    made.close()


class Host:
    """The host's CDI directories, in which each test has files of its own."""

    def __init__(self) -> None:
        self.made: list[Path] = []
        for directory in (ETC, RUN):
            if not directory.exists():
                directory.mkdir()
                self.made.append(directory)

    def put(self, directory: Path, name: str, text: str) -> None:
        path = directory / f"{VENDOR}-{name}"
        path.write_text(text)
        self.made.append(path)

    def spec(self, *devices: tuple[str, dict[str, Any]], **edits: Any) -> None:
        listed = [{"name": name, "containerEdits": own} for name, own in devices]
        document = {"cdiVersion": "0.7.0", "kind": f"{VENDOR}/thing", "devices": listed, "containerEdits": edits}
        self.put(ETC, "thing.json", json.dumps(document))

    def close(self) -> None:
        for path in reversed(self.made):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def test_a_container_has_what_its_devices_file_says(lab: Lab, host: Host, tmp_path: Path) -> None:
    (tmp_path / "library").write_text("bytes\n")
    host.spec(
        (
            "0",
            {
                "env": ["THING=zero", "PATH=/bin:/opt/thing"],
                "deviceNodes": [
                    {"path": "/dev/thing/always-full", "hostPath": "/dev/full", "permissions": "rw", "fileMode": 0o660, "gid": 44},
                    {"path": "/dev/zero2", "type": "c", "major": 1, "minor": 5},
                ],
                "mounts": [{"hostPath": str(tmp_path), "containerPath": "/opt/thing", "options": ["ro", "nosuid", "rbind"]}],
                "additionalGids": [44],
            },
        ),
        env=["VENDOR=all"],
    )
    script = "ls -ln /dev/thing; echo x > /dev/thing/always-full; head -c 3 /dev/zero2 | wc -c; cat /opt/thing/library;"
    script += " touch /opt/thing/x; id; env"
    done = lab.run("run", "--rm", "--device", f"{VENDOR}/thing=0", IMAGE, "sh", "-c", script)
    assert "crw-rw----" in done.stdout and " 44 " in done.stdout and "1,   7" in done.stdout, f"the node, under another name: {done}"
    assert "No space left on device" in done.stderr, "it is /dev/full, and may be written"
    assert "3\nbytes\n" in done.stdout and "Read-only file system" in done.stderr, "another node, and a mount"
    assert "groups=" in done.stdout and "44" in done.stdout.partition("groups=")[2].partition("\n")[0], "a group"
    for variable in ("THING=zero", "VENDOR=all", "PATH=/bin:/opt/thing"):
        assert f"\n{variable}\n" in done.stdout, f"{variable}, in place of an image's own"


def test_a_file_of_yaml_that_was_made_at_boot_wins(lab: Lab, host: Host) -> None:
    host.spec(("0", {"env": ["FROM=etc"]}))
    edits = "{env: [FROM=run], deviceNodes: [{path: /dev/f, hostPath: /dev/full}]}"
    devices = f"- name: '0'\n  containerEdits: {edits}\n"
    host.put(RUN, "other.yaml", f"cdiVersion: 0.6.0\nkind: {VENDOR}/thing\ndevices:\n{devices}")
    said = lab.ok("run", "--rm", "--device", f"{VENDOR}/thing=0", IMAGE, "sh", "-c", "echo $FROM; ls /dev/f")
    assert said == "run\n/dev/f\n", "what describes the machine as it is now"


def test_a_device_that_is_not_described_is_an_error_and_leaves_nothing(lab: Lab, host: Host) -> None:
    host.spec(("0", {"env": ["A=1"]}))
    done = lab.run("run", "--rm", "--device", f"{VENDOR}/thing=7", IMAGE, "true")
    assert done.returncode != 0 and f"there are {VENDOR}/thing=0" in done.stderr, f"it says what there is: {done}"
    done = lab.run("run", "--rm", "--device", "thing=0", IMAGE, "true")
    assert done.returncode != 0 and "vendor.com/class=name" in done.stderr, f"it says how a name looks: {done}"
    assert lab.ids() == [], "no container is left"


def test_a_declaration_has_them_too_and_converges_once(lab: Lab, host: Host, tmp_path: Path) -> None:
    host.spec(("0", {"env": ["A=1"]}), ("1:x", {"env": ["B=2"]}))
    compose = tmp_path / "compose.yaml"
    devices = f'["{VENDOR}/thing=0", {{source: "{VENDOR}/thing=1:x"}}, "/dev/full:/dev/f"]'
    compose.write_text(
        f"name: cdi\nservices:\n  one:\n    image: {IMAGE}\n    command: [sleep, '60']\n    init: true\n    devices: {devices}\n"
    )
    lab.ok("apply", str(compose))
    name = lab.ok("ps", "--format", "{{.Names}}").strip()
    try:
        assert lab.ok("apply", str(compose)) == "nothing to do\n", "a second time changes nothing"
        pid = lab.ok("inspect", "--format", "{{.State.Pid}}", name).strip()
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"A=1" in environment and b"B=2" in environment, "both devices' variables"
        assert Path(f"/proc/{pid}/root/dev/f").is_char_device(), "and a node by its path"
    finally:
        lab.run("rm", "-f", name)


HOOK = """#!/bin/sh
moment=$1 log=$2
read -r state
bundle=$(echo "$state" | sed 's/.*"bundle": *"\\([^"]*\\)".*/\\1/')
root=$(sed -n 's/.*"root": *{[^}]*"path": *"\\([^"]*\\)".*/\\1/p' "$bundle/config.json")
status=$(echo "$state" | sed 's/.*"status": *"\\([^"]*\\)".*/\\1/')
[ "$moment" = createContainer ] && { echo linked > "$root/made-by-hook"; }
echo "$moment $status" >> "$log"
"""


def test_hooks_run_at_their_moments_and_may_change_the_root_file_system(lab: Lab, host: Host, tmp_path: Path) -> None:
    hook, log = tmp_path / "hook", tmp_path / "log"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    hooks = [{"hookName": each, "path": str(hook), "args": ["hook", each, str(log)], "env": ["PATH=/usr/bin:/bin"]} for each in moments]
    inside = {"hookName": "startContainer", "path": "/bin/touch", "args": ["touch", "/made-inside"]}
    host.spec(("0", {"hooks": [*hooks, inside]}))
    said = lab.ok("run", "--device", f"{VENDOR}/thing=0", "--name", "hooked", IMAGE, "sh", "-c", "cat /made-by-hook; ls /made-inside")
    assert said == "linked\n/made-inside\n", "before the container's program, in its root file system"
    lab.wait("hooked", "exited")
    lab.ok("rm", "hooked")
    assert log.read_text().splitlines() == [
        "prestart creating", "createRuntime creating", "createContainer creating", "poststart running", "poststop stopped"
    ], "each once, in the specification's order"  # fmt: skip


def test_a_hook_that_fails_is_an_error_and_leaves_nothing(lab: Lab, host: Host, tmp_path: Path) -> None:
    for moment in ("createRuntime", "createContainer", "poststart"):
        host.spec(("0", {"hooks": [{"hookName": moment, "path": "/bin/sh", "args": ["sh", "-c", "echo no such thing >&2; exit 3"]}]}))
        done = lab.run("run", "--rm", "--device", f"{VENDOR}/thing=0", IMAGE, "sleep", "60")
        assert done.returncode != 0 and f"{moment}[0] /bin/sh: exit status 3; it said: no such thing" in done.stderr, f"it is named: {done}"
        assert lab.ids() == [], "no container is left"
