"""What `bayplan-oci features` promises is what is really accepted (features.md of the runtime specification)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bayplan.errors import Invalid
from bayplan.kernel import mountoptions, seccomp
from bayplan.model import bundle_parser
from bayplan.model.capabilities import mask

RUNTIME = Path(__file__).parents[2] / "runtime"
MACHINE = os.uname().machine


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    code = f"import sys; sys.path.insert(0, {str(RUNTIME)!r}); from bayplan.oci.main import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, "features"], capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def parsed(linux: dict[str, Any], **top: Any) -> Any:
    process = {"args": ["x"], "cwd": "/", **top.pop("process", {})}
    return bundle_parser.parse_config({"ociVersion": "1.2.0", "process": process, "root": {"path": "r"}, "linux": linux, **top})


def compiled(**profile: Any) -> bytes:
    given = {"defaultAction": "SCMP_ACT_ALLOW", **profile}
    return seccomp.filter_bytes(parsed({"seccomp": given}).linux.seccomp, (), machine=MACHINE)


def accepts(attempt: Any) -> bool:
    try:
        attempt()
    except Invalid:
        return False
    return True


def test_seccomps_words_are_those_of_the_compiler(told: dict[str, Any]) -> None:
    promised = told["linux"]["seccomp"]
    rule = {"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}
    argument = {"index": 0, "value": 1, "valueTwo": 1}
    agent = {"SCMP_ACT_NOTIFY": {"listenerPath": "/run/agent"}}
    attempts = {
        "actions": lambda word: compiled(syscalls=[{**rule, "action": word}], **agent.get(word, {})),
        "operators": lambda word: compiled(syscalls=[{**rule, "args": [{**argument, "op": word}]}]),
        "archs": lambda word: compiled(architectures=[word]),
        "knownFlags": lambda word: compiled(flags=[word], syscalls=[{**rule, "action": "SCMP_ACT_NOTIFY"}], listenerPath="/run/agent"),
    }
    candidates = {
        "actions": words("SCMP_ACT_", "ALLOW ERRNO KILL KILL_PROCESS KILL_THREAD LOG NOTIFY TRACE TRAP USER_NOTIF DENY allow"),
        "operators": words("SCMP_CMP_", "EQ NE LT LE GE GT MASKED_EQ MASKED_NE IN"),
        "archs": words("SCMP_ARCH_", "NATIVE X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 "
                       "PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB ALPHA"),
        "knownFlags": words("SECCOMP_FILTER_FLAG_", "TSYNC LOG SPEC_ALLOW NEW_LISTENER TSYNC_ESRCH WAIT_KILLABLE_RECV"),
    }  # fmt: skip
    for field, attempt in attempts.items():
        accepted = {word for word in {*candidates[field], *promised[field]} if accepts(partial(attempt, word))}
        assert set(promised[field]) == accepted, f"linux.seccomp.{field}"
    assert set(promised["supportedFlags"]) <= set(promised["knownFlags"]), "what this kernel has is of what is known"


def words(prefix: str, names: str) -> list[str]:
    return [prefix + name for name in names.split()]


def test_namespaces_hooks_and_capabilities_are_those_of_the_parser(told: dict[str, Any]) -> None:
    mapping = [{"containerID": 0, "hostID": 1, "size": 1}]
    ids = {"uidMappings": mapping, "gidMappings": mapping}
    for kind in (*told["linux"]["namespaces"], "nosuch"):
        given = {"namespaces": [{"type": kind}], **(ids if kind == "user" else {})}
        assert accepts(partial(parsed, given)) == (kind != "nosuch"), f"linux.namespaces: {kind}"
    for moment in told["hooks"]:
        found = parsed({}, hooks={moment: [{"path": "/x"}]}).hooks
        assert found and sum(map(len, found)) == 1, f"hooks.{moment}"
    assert len(told["hooks"]) == 6, "which are the specification's six"
    masks = {mask((name,)) for name in told["linux"]["capabilities"]}
    assert len(masks) == len(told["linux"]["capabilities"]) >= 41, "each capability is one that the kernel part knows"


def test_mount_options_are_those_of_the_kernel_part(told: dict[str, Any]) -> None:
    assert set(told["mountOptions"]) == set(mountoptions.OPTIONS), "no more, and no less"


def test_annotations_that_change_what_happens_are_told(told: dict[str, Any]) -> None:
    prefixes = told["potentiallyUnsafeConfigAnnotations"]
    for name in ("bayplan.user", "bayplan.init", "bayplan.seccomp"):
        assert any(name.startswith(prefix) for prefix in prefixes if prefix.endswith(".")), f"{name} is"


def test_the_document_has_the_members_that_the_specification_names(told: dict[str, Any]) -> None:
    assert told["ociVersionMin"] == "1.0.0" and told["ociVersionMax"] == "1.2.0", "versions"
    linux = told["linux"]
    assert {"v1", "v2", "systemd", "systemdUser", "rdma"} == set(linux["cgroup"]), "linux.cgroup"
    assert linux["mountExtensions"]["idmap"]["enabled"] and not linux["intelRdt"]["enabled"], "what there is, and what there is not"


@pytest.mark.skipif(not shutil.which("runc"), reason="runc is not installed (Debian: runc)")
def test_it_promises_what_runc_promises(told: dict[str, Any]) -> None:
    theirs = json.loads(subprocess.run(["runc", "features"], capture_output=True, text=True, check=True).stdout)
    assert set(theirs["hooks"]) == set(told["hooks"]), "hooks"
    data = {"acl", "noacl"}  # which file systems read themselves: they are none of mount(2)'s flags that it heeds
    assert set(theirs["mountOptions"]) - data <= set(told["mountOptions"]), "mount options"
    for field in ("namespaces", "capabilities"):
        assert set(theirs["linux"][field]) <= set(told["linux"][field]), field
    for field in ("actions", "operators", "archs"):
        assert set(theirs["linux"]["seccomp"][field]) <= set(told["linux"]["seccomp"][field]), f"seccomp.{field}"
