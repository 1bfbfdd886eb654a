from __future__ import annotations

import json

import pytest

from bayplan.errors import Invalid
from bayplan.model import bundle_document, bundle_parser
from bayplan.model import runtime as r

FULL = r.Config(
    r.Process(
        ("/bin/sh", "-c", "true"),
        ("PATH=/bin", "A=b=c"),
        "/srv",
        r.User(5, 6, (7, 8), "app:staff", ("audio", "99"), 0o027),
        True,
        (24, 80),
        r.Capabilities(("CAP_CHOWN",), ("CAP_CHOWN",), ("CAP_CHOWN",)),
        (r.Rlimit("RLIMIT_NOFILE", 1024, -1),),
        True,
        -5,
        "docker-default",
    ),
    r.Root("/rootfs", True),
    "box",
    "example.org",
    (r.Mount("/proc", "proc", "proc", ("nosuid",)),),
    r.Linux(
        (r.Namespace("pid"), r.Namespace("network", "/proc/1/ns/net")),
        (r.Device("/dev/fuse", "c", 10, 229, 0o600, 1, 2),),
        r.Resources(
            1, 2, 3, 4, True, 5, 6, 7, "0-1", "0", -1, (r.DeviceRule(False), r.DeviceRule(True, "c", 1, None, "r"))
        ),
        "/bayplan/x",
        "slave",
        r.Seccomp("default"),
        (("net.ipv4.ip_forward", "1"),),
        ("/proc/kcore",),
        ("/proc/sys",),
    ),
    (("a", "b"),),
    True,
)
CUSTOM = r.Seccomp(
    "custom",
    "SCMP_ACT_ERRNO",
    1,
    ("SCMP_ARCH_X86_64",),
    (r.SyscallRule(("read",), "SCMP_ACT_ALLOW", None, ((0, 1, 2, "SCMP_CMP_EQ"),)),),
)


@pytest.mark.parametrize(
    "config", [FULL, FULL._replace(linux=FULL.linux._replace(seccomp=CUSTOM)), r.Config(r.Process(("x",)), r.Root("/"))]
)
def test_a_configuration_survives_its_document(config: r.Config) -> None:
    document = json.loads(json.dumps(bundle_document.config_document(config)))
    assert bundle_parser.parse_config(document) == config, "parse_config undoes config_document, through JSON"


def test_an_unlimited_rlimit_is_all_bits_set_in_the_document() -> None:
    assert bundle_document.config_document(FULL)["process"]["rlimits"][0]["hard"] == 2**64 - 1, (
        "RLIM_INFINITY as other runtimes read it"
    )


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"process": {"args": "sh"}, "root": {"path": "/"}},
        {"process": {"args": ["a\0b"]}, "root": {"path": "/"}},
        {"process": {"args": ["a"], "user": {"uid": -1}}, "root": {"path": "/"}},
        {"process": {"args": ["a"]}, "root": {"path": "/"}, "linux": {"namespaces": [{"type": "magic"}]}},
        {"process": {"args": ["a"]}, "root": {"path": "/"}, "linux": {"resources": {"memory": {"limit": "1g"}}}},
    ],
)
def test_a_document_of_the_wrong_shape_is_invalid(document: object) -> None:
    with pytest.raises(Invalid):
        bundle_parser.parse_config(document)
