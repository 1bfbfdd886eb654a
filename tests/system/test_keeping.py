"""How much room things take, and removing what nothing uses, by the command line, for real."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import IMAGE, Lab, lab

from bayplan.engine.state import open_state
from bayplan.store import cache, records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers take root")
MB = 1_000_000


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as found:
        yield found


def import_more(host: Lab, name: str, *, size: int = MB, label: str = "") -> str:
    """Another image, of one layer with one file of `size` random bytes; its id."""
    archive = host.directory / "more.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("data")
        entry.size = size
        tar.addfile(entry, io.BytesIO(os.urandom(size)))
    change = ("--change", f"LABEL {label}") if label else ()
    return host.ok("import", *change, str(archive), name).strip()


def blobs(host: Lab) -> set[str]:
    return set(os.listdir(host.root / "blobs/sha256"))


def layers(host: Lab) -> set[str]:
    return set(os.listdir(host.root / "layers"))


def summary(host: Lab) -> dict[str, dict[str, str]]:
    return {each["Type"]: each for each in map(json.loads, host.ok("system", "df", "--format", "json").splitlines())}


def test_df_counts_what_is_there_and_what_is_used(host: Lab) -> None:
    import_more(host, "more:1", size=3 * MB)
    host.ok("run", "-d", "--name", "busy", "-v", "data:/data", IMAGE, "sh", "-c", "head -c 2000000 /dev/zero > /data/x; sleep 100")
    host.ok("run", "--name", "idle", IMAGE, "sh", "-c", "head -c 4000000 /dev/urandom > /written")
    host.ok("volume", "create", "empty")
    found = summary(host)
    assert [found[kind]["TotalCount"] for kind in ("Images", "Containers", "Local Volumes")] == ["2", "2", "2"]
    assert [found[kind]["Active"] for kind in ("Images", "Containers", "Local Volumes")] == ["1", "1", "1"]
    assert found["Images"]["Reclaimable"].startswith("6.0"), "a layer and its blob, of 3 MB each"
    assert found["Containers"]["Reclaimable"].startswith("4.0") and found["Containers"]["Size"].startswith("4.")
    assert found["Local Volumes"]["Size"].startswith("2") and found["Local Volumes"]["Reclaimable"].endswith("(0%)")
    assert host.ok("system", "df").splitlines()[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    host.ok("rm", "-f", "busy")


def test_df_tells_what_images_share(host: Lab) -> None:
    archive = host.directory / "same.tar"
    archive.write_bytes((host.directory / "root.tar").read_bytes())
    host.ok("import", "--change", "ENV OTHER=1", str(archive), "other:1")
    host.ok("create", "--name", "user", "-v", "data:/data", "other:1", "sh")
    found = json.loads(host.ok("system", "df", "-v", "--format", "json"))
    sizes = {each["Repository"]: each for each in found["Images"]}
    assert sizes["box"]["SharedSize"] == sizes["other"]["SharedSize"] and "MB" in sizes["box"]["SharedSize"]
    assert sizes["box"]["UniqueSize"].endswith(("B", "kB")) and not sizes["box"]["UniqueSize"].endswith("MB"), "its documents"
    assert [sizes[name]["Containers"] for name in ("box", "other")] == ["0", "1"]
    assert [each["Links"] for each in found["Volumes"]] == ["1"] and [each["Names"] for each in found["Containers"]] == ["user"]
    shown = host.ok("system", "df", "-v")
    for title in ("Images space usage:", "Containers space usage:", "Local Volumes space usage:"):
        assert title in shown
    assert host.ok("system", "df", "--verbose", "--format", "{{range .Volumes}}{{.Name}}{{end}}") == "data\n"


def test_df_of_an_absent_state_is_empty_and_makes_none(host: Lab, tmp_path: Path) -> None:
    words = [*host.command()[:4], "--root", str(tmp_path / "nothing"), "system", "df"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and "Images" in done.stdout and not (tmp_path / "nothing").exists()


def test_prune_takes_only_what_its_filters_name(host: Lab) -> None:
    for name, label in (("one", "kind=a"), ("two", "kind=b")):
        host.ok("create", "--name", name, "-l", label, IMAGE)
        host.ok("network", "create", "--label", label, f"net-{name}")
        host.ok("volume", "create", "--label", label, f"vol-{name}")
    host.ok("container", "prune", "-f", "--filter", "until=1h")
    assert len(host.ids()) == 2, "both are younger"
    host.ok("container", "prune", "-f", "--filter", "label!=kind=b")
    assert host.ok("ps", "-a", "--format", "{{.Names}}") == "two\n"
    host.ok("container", "prune", "-f", "--filter", f"until={int(time.time()) + 60}")
    assert host.ids() == []
    assert host.ok("network", "prune", "-f", "--filter", "label=kind=a") == "Deleted Networks:\nnet-one\n\n"
    assert "Deleted" not in host.ok("volume", "prune", "-f"), "nothing that somebody named goes unasked"
    assert "vol-two" in host.ok("volume", "prune", "-f", "--all", "--filter", "label=kind=b")
    assert "vol-one" in host.ok("volume", "prune", "-f", "--filter", "all=true")
    for words in (
        ["container", "prune", "-f", "--filter", "dangling=true"],
        ["volume", "prune", "-f", "--filter", "until=1h"],
        ["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
        ["image", "prune", "-f", "--filter", "until=yesterday"],
        ["image", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h"],
    ):
        done = host.run(*words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, words


def test_prune_of_images_takes_those_without_a_name_and_all_only_where_it_is_told(host: Lab) -> None:
    nameless = import_more(host, "more:1")
    named = import_more(host, "more:1", label="kept=yes")
    shown = host.ok("image", "prune", "-f")
    assert f"deleted: {nameless}" in shown and named not in shown
    assert "Total reclaimed space: 2" in shown, "the layer of 1 MB and its blob"
    assert named not in host.ok("image", "prune", "-af", "--filter", "label=kept=no")
    shown = host.ok("image", "prune", "-f", "--filter", "dangling=false", "--filter", "label=kept=yes")
    assert f"untagged: more:1\ndeleted: {named}\n" in shown
    assert IMAGE.partition(":")[0] in host.ok("images"), "it does not carry the label"


def test_reclaimed_space_is_what_containers_and_volumes_had(host: Lab) -> None:
    host.ok("run", "--name", "one", "-v", "/anonymous", IMAGE, "sh", "-c", "head -c 3000000 /dev/urandom | tee /written > /anonymous/x")
    assert "Total reclaimed space: 3.0" in host.ok("container", "prune", "-f")
    assert "Total reclaimed space: 3" in host.ok("volume", "prune", "-f")
    assert "Total reclaimed space: 0B" in host.ok("system", "prune", "-f")


def test_blobs_are_kept_for_a_while_where_that_is_wanted(host: Lab) -> None:
    before, unpacked = blobs(host), layers(host)
    import_more(host, "more:1")
    came = blobs(host) - before
    host.ok("rmi", "more:1", BAYPLAN_KEEP_BLOBS="1h")
    assert came <= blobs(host) and layers(host) == unpacked, "the layer is made from its blob again"
    for blob in came:
        os.utime(host.root / "blobs/sha256" / blob, (time.time() - 3500,) * 2)
    host.ok("image", "prune", "-f", BAYPLAN_KEEP_BLOBS="1h")
    assert came <= blobs(host), "not yet"
    for blob in came:
        os.utime(host.root / "blobs/sha256" / blob, (time.time() - 3700,) * 2)
    host.ok("image", "prune", "-f", BAYPLAN_KEEP_BLOBS="1h")
    assert blobs(host) == before


def test_the_time_counts_from_when_the_last_image_went(host: Lab) -> None:
    before = blobs(host)
    import_more(host, "more:1")
    came = blobs(host) - before
    for blob in came:
        os.utime(host.root / "blobs/sha256" / blob, (1000, 1000))
    host.ok("rmi", "more:1", BAYPLAN_KEEP_BLOBS="1h")
    assert came <= blobs(host), "it was pulled long ago, and needed until now"
    host.ok("image", "prune", "-af", BAYPLAN_KEEP_BLOBS="1h", stdin=b"")
    assert not came & blobs(host), "who asks for all wants the room"
    host.ok("import", str(host.directory / "root.tar"), IMAGE)


def test_nothing_is_swept_beside_a_pull_and_no_removal_waits_for_it_for_ever(host: Lab) -> None:
    import_more(host, "more:1")
    there = layers(host)
    lock = os.open(host.root / "content.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as who pulls, loads, builds or pushes has it
        begin = time.monotonic()
        assert "Deleted" in host.ok("rmi", "more:1")
        assert time.monotonic() - begin < 20
        assert layers(host) == there, "it may be what the other one is counting on"
    finally:
        os.close(lock)
    host.ok("image", "prune", "-f")
    assert len(layers(host)) == len(there) - 1, "the next sweep takes it"


def test_an_image_without_its_blobs_is_swept_around(host: Lab) -> None:
    import_more(host, "more:1")
    for blob in blobs(host):
        if (host.root / "blobs/sha256" / blob).stat().st_size > MB:
            (host.root / "blobs/sha256" / blob).unlink()
    kept = layers(host)
    host.ok("image", "prune", "-f")
    assert layers(host) == kept and summary(host)["Images"]["TotalCount"] == "2"
    host.ok("rmi", "more:1")
    assert len(layers(host)) == len(kept) - 1


def remember_steps(host: Lab, *steps: tuple[str, str, str]) -> None:
    """Put records of (key, layer, last use) into the build cache, as builds do."""
    state = open_state(str(host.root))
    with records.transaction(state.records):
        for key, layer, used in steps:
            cache.put(state.records, cache.Step(key, layer, "RUN make", used, used))
    state.records.close()


def test_the_build_cache_keeps_layers_and_is_pruned_by_age(host: Lab) -> None:
    before = layers(host)
    import_more(host, "more:1")
    (made,) = (f"sha256:{layer}" for layer in layers(host) - before)
    (own,) = (f"sha256:{layer}" for layer in before)
    remember_steps(host, ("k1", made, "2026-01-01T00:00:00.000000000Z"), ("k2", own, "2026-01-01T00:00:00.000000000Z"))
    host.ok("rmi", "more:1")
    assert len(layers(host)) == 2, "the next build takes it"
    found = summary(host)
    assert found["Build Cache"]["TotalCount"] == "2" and found["Build Cache"]["Active"] == "1", "an image has the other's layer"
    assert found["Build Cache"]["Reclaimable"] == "1MB (100%)", "a layer that an image has is counted with it"
    assert "Build cache usage:" in host.ok("system", "df", "-v")
    assert "Deleted" not in host.ok("builder", "prune", "-f", "--filter", "until=2020-01-01")
    assert host.ok("system", "prune", "-f").startswith("Deleted build cache objects:\nk1\n\nTotal reclaimed space: 1")
    assert layers(host) == before
    assert "k2" in host.ok("builder", "prune", "-af") and layers(host) == before, "the image keeps its layer"


def names(host: Lab, *words: str) -> list[str]:
    return host.ok("images", "--format", "{{.Repository}}:{{.Tag}}", *words).split()


def test_images_are_listed_by_docker_s_filters_the_youngest_first(host: Lab) -> None:
    for name, label in (("first:1", "kind=a"), ("example.org/team/second:2", "kind=b"), ("nameless:1", "kind=b"), ("nameless:1", "")):
        import_more(host, name, label=label)
    shown = names(host)
    assert shown == ["nameless:1", "<none>:<none>", "example.org/team/second:2", "first:1", IMAGE]
    assert names(host, "--filter", "dangling=true") == ["<none>:<none>"]
    assert names(host, "--filter", "label=kind=b", "--filter", "dangling=false") == ["example.org/team/second:2"]
    assert names(host, "--filter", "before=first:1") == [IMAGE] and names(host, "--filter", "since=example.org/team/second:2") == shown[:2]
    digits = host.ok("images", "-q", "first").strip()
    assert names(host, "--filter", f"before={digits}") == [IMAGE]
    assert names(host, "--filter", "until=1h") == [] and names(host, "--filter", f"until={int(time.time()) + 60}") == shown
    assert names(host, "--filter", "reference=*:1") == ["nameless:1", "first:1", IMAGE], "a star passes no slash"
    assert names(host, "--filter", "reference=*/team/*") == ["example.org/team/second:2"] == names(host, "example.org/team/second")
    assert "DIGEST" in host.ok("images", "--digests").splitlines()[0]
    for wrong in ("before=nobody", "until=x", "size=1", "dangling=maybe"):
        assert host.run("images", "--filter", wrong).returncode == 1, wrong
