"""What containers change becomes images, lists and archives: commit, diff, export, history and flatten, by the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import IMAGE, Lab, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
EPOCH = "1500000000"

# Everything that a layer can hold, and what it cannot; the seed of the image is /etc/kept, /old and /opaque
CHANGE = r"""
set -e
mkdir /etc/new /opaque2
echo changed > /etc/kept
chmod 4755 /etc/kept
busybox rm -r /old /opaque
mkdir /opaque
echo inside > /opaque/inside
echo "a name
of two lines" > "/etc/new/two
lines"
busybox ln /opaque/inside /etc/new/linked
busybox ln -s /nowhere /etc/new/dangling
busybox mkfifo /etc/new/fifo
busybox mknod /etc/new/null c 1 3
busybox mknod /etc/new/block b 7 9
touch /.wh.etc
busybox chown 70000:3000000 /etc/new
busybox truncate -s 50M /etc/new/sparse
"""
CHANGED = [
    "A /.wh.etc", "C /etc", "C /etc/kept", "A /etc/new", "A /etc/new/block", "A /etc/new/dangling", "A /etc/new/fifo", "A /etc/new/linked",
    "A /etc/new/null", "A /etc/new/sparse", "A /etc/new/two\nlines", "D /old", "C /opaque", "D /opaque/hidden", "A /opaque/inside",
    "A /opaque2",
]  # fmt: skip


@pytest.fixture(scope="module", params=["overlay", "vfs"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYPLAN_STORAGE_DRIVER", request.param)
        with lab(tmp_path_factory.mktemp(f"changes-{request.param}")) as found:
            script = "mkdir /old /opaque; echo x > /old/file; echo y > /opaque/hidden; echo z > /etc/kept"
            found.ok("run", "--name", "seed", IMAGE, "sh", "-c", script)
            found.ok("commit", "seed", "seed:1")
            yield found


@pytest.fixture(autouse=True)
def nothing_stays(host: Lab) -> Iterator[None]:
    yield
    for container in host.ids():
        host.run("rm", "-f", "-v", container)


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return {each.name: each for each in file}


def raw(host: Lab, *words: str, **environment: str) -> bytes:
    done = subprocess.run(host.command(*words), capture_output=True, timeout=60, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def config(host: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.ok("inspect", "--format", "{{json .Config}}", name))
    return found


def layers(host: Lab, name: str) -> list[str]:
    found: list[str] = json.loads(host.ok("inspect", "--format", "{{json .RootFS.Layers}}", name))
    return found


def test_diff_shows_what_a_container_has_changed_and_nothing_that_a_start_made(host: Lab) -> None:
    host.ok("run", "--name", "one", "-v", "/data/volume", "--tmpfs", "/scratch", "seed:1", "true")
    assert host.ok("diff", "one") == "", "mount points are nobody's change"
    host.ok("run", "--name", "two", "--cap-add", "MKNOD", "seed:1", "sh", "-c", CHANGE)
    assert host.ok("container", "diff", "two").removesuffix("\n") == "\n".join(CHANGED)
    host.ok("create", "--name", "three", "seed:1")
    assert host.ok("diff", "three") == "", "one that was never started has changed nothing"


def test_a_commit_has_the_files_and_settings_of_its_container(host: Lab) -> None:
    host.ok("run", "--name", "two", "-e", "MINE=1", "-w", "/etc", "-l", "a=b", "--expose", "99", "seed:1", "sh", "-c", CHANGE)
    done = host.run(
        "commit", "-a", "Me", "-m", "why", "-c", 'CMD ["ls", "/etc/new"]', "-c", "ENV B=$MINE C=d", "-c", "USER 5", "two", "made:1"
    )
    assert done.returncode == 0 and "left out /.wh.etc" in done.stderr
    image = json.loads(host.ok("inspect", "made:1"))[0]
    assert image["Id"] == done.stdout.strip() and image["Author"] == "Me"
    found = image["Config"]
    assert found["Cmd"] == ["ls", "/etc/new"] and found["User"] == "5" and found["WorkingDir"] == "/etc"
    assert {"MINE=1", "B=1", "C=d"} <= set(found["Env"]) and found["Labels"] == {"a": "b"} and "99/tcp" in found["ExposedPorts"]
    assert host.ok("run", "--rm", "made:1").split() == ["block", "dangling", "fifo", "linked", "null", "sparse", "two?lines"]
    look = "cat /etc/kept; ls /opaque; busybox stat -c '%a %u %g %h' /etc/kept /etc/new /etc/new/linked; ls /old"
    done = host.run("run", "--rm", "-u", "0", "made:1", "sh", "-c", look)
    assert done.stdout.split("\n")[:5] == ["changed", "inside", "4755 0 0 1", "755 70000 3000000 2", "644 0 0 2"]
    assert "/old: No such file" in done.stderr
    assert layers(host, "made:1")[:-1] == layers(host, "seed:1"), "on the image's own layers"


def test_a_container_that_changed_nothing_makes_an_image_without_a_layer_of_its_own(host: Lab) -> None:
    host.ok("run", "--name", "one", "seed:1", "true")
    host.ok("commit", "-m", "only a label", "-c", "LABEL a=b", "one", "same:1")
    assert layers(host, "same:1") == layers(host, "seed:1") and config(host, "same:1")["Labels"] == {"a": "b"}
    assert host.ok("history", "--format", "{{.Size}} {{.Comment}}", "same:1").startswith("0B only a label\n")


def test_a_commit_is_the_same_image_again_with_an_epoch(host: Lab) -> None:
    for name in ("one", "two"):
        host.ok("run", "--name", name, "-h", "same", "seed:1", "sh", "-c", "mkdir /new; echo x > /new/file; chmod 600 /etc/kept")
    ids = {host.ok("commit", name, SOURCE_DATE_EPOCH=EPOCH) for name in ("one", "two")}
    assert len(ids) == 1, "no time of now is in it"
    assert host.ok("inspect", "--format", "{{.Created}}", ids.pop().strip()).startswith("2017-07-14T02:40:00")


def test_a_running_container_is_held_while_it_is_committed_and_goes_on(host: Lab) -> None:
    """Two files that the container writes in turns are equally long in the image."""
    script = "while :; do echo x >> /tmp/a; echo x >> /tmp/b; done"
    host.ok("run", "-d", "--name", "busy", "seed:1", "sh", "-c", script)
    for number in range(3):
        host.ok("commit", "busy", f"busy:{number}")
        first, second = host.ok("run", "--rm", f"busy:{number}", "busybox", "stat", "-c", "%s", "/tmp/a", "/tmp/b").split()
        assert int(first) - int(second) in (0, 2), "no write came between the two"
    assert host.status("busy") == "running"
    host.ok("commit", "--pause=false", "busy", "busy:unpaused")
    host.ok("pause", "busy")
    host.ok("commit", "busy", "busy:paused")
    assert host.status("busy") == "paused", "one that was paused stays it"
    host.ok("unpause", "busy")


@pytest.mark.parametrize("change", ["RUN true", "COPY a b", "FROM x", "NOSUCH x", "ENV A=b\nUSER 5", "EXPOSE x", ""])
def test_a_change_that_is_no_instruction_about_the_config_is_refused(host: Lab, change: str) -> None:
    host.ok("create", "--name", "one", "seed:1")
    done = host.run("commit", "-c", change, "one", "refused:1")
    assert done.returncode == 1 and done.stderr.startswith("bayplan: ") and "bug" not in done.stderr, done
    assert host.run("inspect", "refused:1").returncode == 1


def test_export_writes_the_whole_root_file_system_without_what_is_mounted(host: Lab) -> None:
    host.ok("run", "-d", "--name", "one", "-v", "/data", "seed:1", "sh", "-c", f"{CHANGE}\necho x > /data/volumes; sleep 1000")
    deadline = time.monotonic() + 10
    while "sparse" not in host.ok("diff", "one"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = members(raw(host, "export", "one"))
    assert "etc/new/two\nlines" in found and "opaque/inside" in found and ".wh.etc" in found
    assert not {"old", "opaque/hidden", "data/volumes", "proc/self", "dev/null"} & found.keys()
    assert found["bin/busybox"].size > 500_000 and found["etc/hosts"].size == 0
    assert found["opaque/inside"].linkname == "etc/new/linked" and found["etc/new"].uid == 70000
    host.ok("export", "-o", str(host.directory / "export.tar"), "one")
    assert members((host.directory / "export.tar").read_bytes()).keys() == found.keys()
    done = host.run("import", str(host.directory / "export.tar"), "again:1")
    assert done.returncode == 0 and host.ok("run", "--rm", "again:1", "cat", "/opaque/inside") == "inside\n"


def test_history_tells_how_an_image_came_to_be(host: Lab) -> None:
    host.ok("run", "--name", "one", "seed:1", "sh", "-c", "echo more > /more")
    host.ok("commit", "-m", "a comment", "one", "told:1")
    lines = host.ok("history", "told:1").splitlines()
    assert lines[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"] and len(lines) == 4
    assert "sh -c echo more > /more" in lines[1] and lines[1].endswith("a comment") and lines[2].startswith("<missing>")
    full = host.ok("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.ID}}", "told:1").splitlines()
    assert full[1].startswith("sh -c mkdir /old /opaque; echo x > /old/file; echo y > /opaque/hidden;") and full[1].endswith("|<missing>")
    assert host.ok("history", "-q", "--no-trunc", "told:1").split() == [
        host.ok("inspect", "-f", "{{.Id}}", "told:1").strip(),
        *["<missing>"] * 2,
    ]
    sizes = host.ok("history", "--human=false", "--format", "{{.Size}}", "told:1").split()
    assert int(sizes[2]) > 500_000 and 0 < int(sizes[0]) < 10_000


def test_an_import_says_what_it_is_for_and_why(host: Lab) -> None:
    archive = str(host.directory / "root.tar")
    host.ok(
        "import", "-m", "a base", "--platform", "linux/arm64/v8", "-c", "HEALTHCHECK CMD true", "-c", "ONBUILD RUN it", archive, "base:1"
    )
    image = json.loads(host.ok("inspect", "base:1"))[0]
    assert image["Architecture"] == "arm64" and image["Config"]["OnBuild"] == ["RUN it"]
    assert image["Config"]["Healthcheck"] == {"Test": ["CMD-SHELL", "true"]}
    assert host.ok("history", "--format", "{{.CreatedBy}}: {{.Comment}}", "base:1") == "import: a base\n"
    host.ok("save", "--platform", "linux/arm64", "-o", str(host.directory / "arm.tar"), "base:1")
    done = host.run("save", "--platform", "linux/s390x", "-o", str(host.directory / "none.tar"), "base:1")
    assert done.returncode == 1 and "it is not for linux/s390x" in done.stderr and not (host.directory / "none.tar").exists()
    refused = host.run("import", "-c", "RUN it", archive)
    assert refused.returncode == 1 and "--change RUN it: it is one of CMD" in refused.stderr


def test_a_flat_image_shows_the_same_files_in_one_layer(host: Lab) -> None:
    host.ok("run", "--name", "two", "seed:1", "sh", "-c", CHANGE)
    host.run("commit", "two", "made:1")
    first = host.ok("image", "flatten", "made:1", "flat:1")
    assert host.ok("image", "flatten", "made:1") == first, "as often as it is done"
    assert len(layers(host, "flat:1")) == 1 and config(host, "flat:1") == config(host, "made:1")
    for name in ("made:1", "flat:1"):
        host.ok("create", "--name", name.partition(":")[0], name)
    want, found = (members(raw(host, "export", name)) for name in ("made", "flat"))
    assert [each.get_info() for each in found.values()] == [each.get_info() for each in want.values()]
    assert not any(".wh." in name for name in found), "there is nothing below to hide"
    assert host.ok("history", "--format", "{{.CreatedBy}}", "flat:1").startswith("bayplan image flatten\n")
    assert host.ok("history", "--format", "{{.Size}}", "flat:1").split()[1:] == ["0B"] * 3, "what was before made no layer"


def test_lower_layers_may_stay_as_they_are(host: Lab) -> None:
    host.ok("run", "--name", "two", "seed:1", "sh", "-c", CHANGE)
    host.run("commit", "two", "made:1")
    host.ok("image", "flatten", "--keep", "1", "made:1", "kept:1")
    assert len(layers(host, "kept:1")) == 2 and layers(host, "kept:1")[0] == layers(host, "made:1")[0]
    for name in ("made:1", "kept:1"):
        host.ok("create", "--name", name.partition(":")[0], name)
    want, found = (members(raw(host, "export", name)) for name in ("made", "kept"))
    assert [each.get_info() for each in found.values()] == [each.get_info() for each in want.values()]
    done = host.run("image", "flatten", "--keep", "9", "made:1")
    assert done.returncode == 1 and "it has 3 layers" in done.stderr


def test_a_committed_image_is_saved_and_loaded_and_is_the_same(host: Lab, tmp_path: Path) -> None:
    host.ok("run", "--name", "one", "seed:1", "sh", "-c", "echo more > /more")
    made = host.ok("commit", "one", "saved:1")
    host.ok("save", "-o", str(tmp_path / "saved.tar"), "saved:1")
    host.ok("save", "-o", str(tmp_path / "again.tar"), "saved:1")
    assert (tmp_path / "saved.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    host.ok("rm", "-f", "one")
    host.ok("rmi", "saved:1")
    assert host.ok("load", "-i", str(tmp_path / "saved.tar")) == "Loaded image: saved:1\n"
    assert host.ok("inspect", "-f", "{{.Id}}", "saved:1") == made
    assert host.ok("run", "--rm", "saved:1", "cat", "/more") == "more\n"


def test_a_container_that_swaps_links_meanwhile_gets_nothing_of_the_host(host: Lab, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("the host's own")
    prepare = f"mkdir /dir; echo inside > /dir/file; busybox ln -s {tmp_path}/dir /link"
    swap = "while :; do busybox mv /dir /aside; busybox mv /link /dir; busybox mv /dir /link; busybox mv /aside /dir; done"
    host.ok("run", "-d", "--name", "hostile", "seed:1", "sh", "-c", f"{prepare}; {swap}")
    for number in range(5):
        assert b"the host's own" not in raw(host, "export", "hostile")
        host.ok("diff", "hostile")
        host.ok("commit", "--pause=false", "hostile", f"hostile:{number}")
        assert b"the host's own" not in raw(host, "save", "--format", "oci-archive", f"hostile:{number}")
        host.ok("run", "--rm", f"hostile:{number}", "true")
        host.ok("rmi", f"hostile:{number}")


def test_a_tree_too_deep_for_any_archive_is_an_error_that_says_where(host: Lab) -> None:
    deep = "i=0; while [ $i -lt 140 ]; do p=$p/$0; i=$((i+1)); done; mkdir -p /a$p /b$p; busybox mv /a /b$p"
    host.ok("run", "--name", "deep", "seed:1", "sh", "-c", deep, "d" * 20)
    for words in (("commit", "deep"), ("export", "-o", str(host.directory / "deep.tar"), "deep"), ("diff", "deep")):
        done = host.run(*words)
        assert done.returncode == 1 and "a path of over 4095 bytes" in done.stderr and done.stdout == "", done
    assert not (host.directory / "deep.tar").exists()
    host.ok("rm", "deep")
