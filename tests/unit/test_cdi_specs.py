"""Documents of the Container Device Interface, what they change in a configuration, and which of several files is meant."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from bayplan.engine import cdi as host
from bayplan.errors import Invalid, NotFound, Unavailable
from bayplan.model.cdi import DeviceNode, Edits, Spec, inject, parse_name, parse_spec
from bayplan.model.node import Node
from bayplan.model.runtime import Config, Device, DeviceRule, Hook, Hooks, IntelRdt, Linux, Mount, Process, Resources, Root, User

EDITS: dict[str, Any] = {
    "env": ["A=1", "B="],
    "deviceNodes": [
        {
            "path": "/dev/x",
            "hostPath": "/dev/full",
            "type": "c",
            "major": 1,
            "minor": 7,
            "fileMode": 0o640,
            "permissions": "wr",
            "uid": 3,
            "gid": 4,
        },
        {"path": "/dev/y"},
    ],
    "mounts": [
        {"hostPath": "/srv", "containerPath": "/data", "options": ["ro", "rbind"]},
        {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"},
    ],
    "hooks": [{"hookName": "createContainer", "path": "/bin/h", "args": ["h", "x"], "env": ["C=2"], "timeout": 3}],
    "additionalGids": [0, 44],
    "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=5", "enableCMT": True},
}


def document(**fields: Any) -> dict[str, Any]:
    return {"cdiVersion": "0.7.0", "kind": "vendor.com/class", "devices": [{"name": "one", "containerEdits": {"env": ["A=1"]}}], **fields}


def with_edits(**edits: Any) -> dict[str, Any]:
    return document(devices=[{"name": "one", "containerEdits": edits}])


def test_a_document_becomes_values() -> None:
    given = document(
        annotations={"a": "b"},
        devices=[{"name": "one", "annotations": {}, "containerEdits": EDITS}, {"name": "2:x", "containerEdits": {"env": ["A=2"]}}],
        containerEdits={"additionalGIDs": [7]},
    )
    nodes = (DeviceNode("/dev/x", "/dev/full", "c", 1, 7, 0o640, "rw", 3, 4), DeviceNode("/dev/y", "/dev/y"))
    mounts = (Mount("/data", "bind", "/srv", ("ro", "rbind")), Mount("/t", "tmpfs", "tmpfs"))
    hook = ("create_container", Hook("/bin/h", ("h", "x"), ("C=2",), 3))
    rdt = IntelRdt("c", "L3:0=f", "MB:0=5", True)
    assert parse_spec(given, "f") == Spec(
        "vendor.com/class",
        (("one", Edits(("A=1", "B="), nodes, mounts, (hook,), (44,), rdt)), ("2:x", Edits(("A=2",)))),
        Edits(gids=(7,)),
    ), "all of it"


@pytest.mark.parametrize("version", ["0.3.0", "v0.5.0", "0.6.0", "0.8.0", "1.0.0"])
def test_the_versions_of_the_specification_are_read(version: str) -> None:
    assert parse_spec(document(cdiVersion=version), "f").devices[0][0] == "one", "with what was in all of them"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "a mapping"),
        (None, "cdiVersion is missing"),
        ({"cdiVersion": "0.6.0", "kind": "a.b/c"}, "devices is missing"),
        (document(cdiVersion="0.2.9"), "from 0.3.0 to 1.0.0"),
        (document(cdiVersion=0.6), "a string"),
        (document(kind="vendor"), "kind such as"),
        (document(kind="vendor.com/a/b"), "kind such as"),
        (document(kind="/x"), "kind such as"),
        (document(kind="vendor.com/" + "a" * 64), "kind such as"),
        (document(kind="v" * 254 + "/a"), "kind such as"),
        (document(cdiVersion="0.5.0", kind="vendor.com/a.b"), "of version 0.6.0"),
        (document(cdiVersion="0.5.0", annotations={"a": "b"}), "of version 0.6.0"),
        (document(devices=[]), "at least one device"),
        (document(devices=[{"name": "a", "containerEdits": EDITS}] * 2), "one name"),
        (document(devices=[{"name": "a"}]), "containerEdits are needed"),
        (document(devices=[{"name": "-a", "containerEdits": EDITS}]), "device's name"),
        (document(cdiVersion="0.4.0", devices=[{"name": "0", "containerEdits": {"env": ["A=1"]}}]), "of version 0.5.0"),
        (document(devices=[{"name": "a", "containerEdits": {}}]), "changes nothing"),
        (document(surprise=1), "unknown key 'surprise'"),
        (with_edits(netDevices=[]), "unknown key 'netDevices'"),
        (with_edits(env=["A"]), r"env\[0\]: a variable"),
        (with_edits(env=["=A"]), "a variable"),
        (with_edits(env="A=1"), "a list"),
        (with_edits(deviceNodes=[{}]), "path is missing"),
        (with_edits(deviceNodes=[{"path": "dev/x"}]), "absolute path"),
        (with_edits(deviceNodes=[{"path": "/dev/../x"}]), r"absolute path without \.\."),
        (with_edits(deviceNodes=[{"path": "/x", "type": "d"}]), "one of"),
        (with_edits(deviceNodes=[{"path": "/x", "major": -1}]), "whole number"),
        (with_edits(deviceNodes=[{"path": "/x", "minor": 1 << 20}]), "whole number"),
        (with_edits(deviceNodes=[{"path": "/x", "permissions": "x"}]), "permissions of r, w and m"),
        (with_edits(deviceNodes=[{"path": "/x", "uid": 1 << 32}]), "whole number"),
        (with_edits(mounts=[{"containerPath": "/x"}]), "hostPath is missing"),
        (with_edits(mounts=[{"hostPath": "/x"}]), "containerPath is missing"),
        (with_edits(mounts=[{"hostPath": "x", "containerPath": "/x"}]), "absolute path"),
        (with_edits(hooks=[{"path": "/x"}]), "hookName is missing"),
        (with_edits(hooks=[{"hookName": "later", "path": "/x"}]), "one of"),
        (with_edits(hooks=[{"hookName": "poststop", "path": "x"}]), "absolute path"),
        (with_edits(hooks=[{"hookName": "poststop", "path": "/x", "timeout": 0}]), "whole number"),
        (with_edits(intelRdt={"closID": "../x"}), "class of service"),
        ({**with_edits(additionalGids=[1]), "cdiVersion": "0.6.0"}, "of version 0.7.0"),
        ({**with_edits(deviceNodes=[{"path": "/x", "hostPath": "/y"}]), "cdiVersion": "0.4.0"}, "of version 0.5.0"),
        ({**with_edits(mounts=[{"hostPath": "/x", "containerPath": "/x", "type": "bind"}]), "cdiVersion": "0.3.0"}, "of version 0.4.0"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: object, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        parse_spec(given, "/etc/cdi/f.json")
    assert str(refused.value).startswith("/etc/cdi/f.json"), "and the file"


@pytest.mark.parametrize("name", ["vendor.com/class=name", "nvidia.com/gpu=0", "v/c.d=a:b_c-1", "vendor.com/gpu=GPU-1-2"])
def test_a_full_name_is_one(name: str) -> None:
    assert parse_name(Node(name, "devices[0]")) == name, "as it was given"


@pytest.mark.parametrize("name", ["vendor.com/class", "class=name", "vendor.com/class=", "=x", "a/b=c/d", "a/b=-", "a b/c=d", "a/b=c\n"])
def test_what_is_no_full_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match=r"devices\[0\]: a CDI device"):
        parse_name(Node(name, "devices[0]"))


def config(**linux: Any) -> Config:
    process = Process(("x",), ("PATH=/bin", "A=0"), user=User(5, 6, (44,)))
    return Config(
        process, Root("/r"), mounts=(Mount("/proc", "proc"), Mount("/data/in", "tmpfs"), Mount("/data", "tmpfs")), linux=Linux(**linux)
    )


def test_edits_change_a_configuration() -> None:
    has = config(devices=(Device("/dev/x", "c", 9, 9), Device("/dev/z", "c", 1, 1)), resources=Resources(devices=(DeviceRule(False),)))
    edits = parse_spec(with_edits(**EDITS), "f").devices[0][1]
    edits = edits._replace(
        nodes=(edits.nodes[0], DeviceNode("/dev/y", "/dev/y", "u", 1, 5, permissions=""), DeviceNode("/dev/f", "/dev/f", "p"))
    )
    made = inject(has, (edits, Edits(hooks=(("create_container", Hook("/later")), ("poststop", Hook("/end"))))))
    assert made.process.env == ("PATH=/bin", "A=1", "B="), "a value of the same name is replaced in its place"
    assert made.process.user.additional_gids == (44,), "groups, each once"
    users = (Device("/dev/y", "u", 1, 5, 0o666, 5, 6), Device("/dev/f", "p", 0, 0, 0o666, 5, 6))
    assert made.linux.devices == (Device("/dev/z", "c", 1, 1), Device("/dev/x", "c", 1, 7, 0o640, 3, 4), *users), (
        "a node of the same path is replaced"
    )
    assert made.linux.resources.devices == (DeviceRule(False), DeviceRule(True, "c", 1, 7, "rw")), "no rule for none, nor for a fifo"
    assert [mount.destination for mount in made.mounts] == ["/proc", "/data", "/t", "/data/in"], "parents first"
    assert made.mounts[1].source == "/srv", "a mount of the same place is replaced"
    assert made.hooks == Hooks(create_container=(edits.hooks[0][1], Hook("/later")), poststop=(Hook("/end"),)), "hooks in their order"
    assert made.linux.intel_rdt == edits.intel_rdt, "the last one's"
    assert inject(has, ()) == has, "nothing changes nothing"


@pytest.fixture
def directories(tmp_path: pathlib.Path) -> tuple[str, str]:
    for name in ("etc", "run"):
        (tmp_path / name).mkdir()
    return str(tmp_path / "etc"), str(tmp_path / "run")


def put(directory: str, name: str, value: object) -> None:
    pathlib.Path(directory, name).write_text(value if isinstance(value, str) else json.dumps(value))


def test_a_files_own_edits_come_once_and_before_its_devices(directories: tuple[str, str]) -> None:
    two = [{"name": name, "containerEdits": {"env": [f"{name}=1"]}} for name in ("a", "b")]
    put(directories[0], "f.json", document(devices=two, containerEdits={"env": ["ALL=1"]}))
    found = host.edits(["vendor.com/class=b", "vendor.com/class=a", "vendor.com/class=b"], directories)
    assert [each.env for each in found] == [("ALL=1",), ("b=1",), ("a=1",)], "in the order in which they were asked for, each once"


def test_a_later_directory_wins_and_two_files_of_one_are_a_conflict(directories: tuple[str, str]) -> None:
    put(directories[0], "a.json", with_edits(env=["WHERE=etc"]))
    put(
        directories[1], "a.yaml", "cdiVersion: 0.6.0\nkind: vendor.com/class\ndevices:\n- name: one\n  containerEdits: {env: [WHERE=run]}\n"
    )
    assert host.edits(["vendor.com/class=one"], directories)[-1].env == ("WHERE=run",), "what was made at boot"
    put(directories[1], "b.json", with_edits(env=["WHERE=else"]))
    with pytest.raises(Invalid, match=r"run/a\.yaml and .*run/b\.json both describe it"):
        host.edits(["vendor.com/class=one"], directories)


def test_an_unknown_device_is_an_error_that_says_what_there_is(directories: tuple[str, str]) -> None:
    put(directories[0], "a.json", document())
    put(directories[1], "broken.json", "{")
    put(directories[1], "notes.txt", "not looked at")
    os.mkfifo(f"{directories[1]}/fifo.json")
    assert host.edits(["vendor.com/class=one"], directories)[-1].env == ("A=1",), "a broken file is in nobody's way"
    with pytest.raises(
        NotFound, match=r"vendor.com/class=two: no file in .*there are vendor.com/class=one; not readable: .*broken.json"
    ) as error:
        host.edits(["vendor.com/class=two"], directories)
    assert "fifo.json: it is not a file" in str(error.value), "nothing waits for a fifo's writer"
    with pytest.raises(NotFound, match="there is none"):
        host.edits(["vendor.com/class=two"], ("/nonexistent",))


def test_a_node_takes_from_the_host_what_its_file_leaves_out(directories: tuple[str, str]) -> None:
    nodes = [
        {"path": "/dev/mine", "hostPath": "/dev/full"},
        {"path": "/dev/u", "hostPath": "/dev/zero", "type": "u"},
        {"path": "/dev/p", "type": "p"},
    ]
    put(directories[0], "a.json", with_edits(deviceNodes=nodes))
    found = host.edits(["vendor.com/class=one"], directories)[-1].nodes
    assert [(node.type, node.major, node.minor) for node in found] == [("c", 1, 7), ("u", 1, 5), ("p", 0, 0)], "type and number"
    for node, kind, words in (
        ({"path": "/dev/absent"}, NotFound, "/dev/absent on the host: No such file"),
        ({"path": "/dev/x", "hostPath": "/etc/passwd"}, Invalid, "not a device node"),
        ({"path": "/dev/x", "hostPath": "/dev/full", "type": "b"}, Invalid, "not of the type b"),
    ):
        put(directories[0], "a.json", with_edits(deviceNodes=[node]))
        with pytest.raises(kind, match=words):
            host.edits(["vendor.com/class=one"], directories)


def test_what_is_not_done_here_is_refused(directories: tuple[str, str]) -> None:
    put(directories[0], "a.json", with_edits(intelRdt={"closID": "x"}))
    with pytest.raises(Unavailable, match="intelRdt"):
        host.edits(["vendor.com/class=one"], directories)
