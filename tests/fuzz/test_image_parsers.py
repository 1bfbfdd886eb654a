"""Every parser of what registries, archives and hosts' files hold: a valid value or Invalid, and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.model.digest import parse_digest
from bayplan.model.image import Manifest, parse_image_config, parse_manifest, parse_platform
from bayplan.model.reference import parse_reference
from bayplan.registry.credentials import parse_auth_file
from bayplan.registry.mirrors import endpoints, parse_registries
from bayplan.registry.protocol import parse_challenges
from bayplan.store import codecs, tar, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
HEX = "ab" * 32
OCI = "application/vnd.oci.image"
DESCRIPTOR = {"mediaType": f"{OCI}.config.v1+json", "digest": f"sha256:{HEX}", "size": 5}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": f"{OCI}.manifest.v1+json",
    "config": DESCRIPTOR,
    "layers": [{**DESCRIPTOR, "mediaType": f"{OCI}.layer.v1.tar"}],
}
CONFIG = {"os": "linux", "architecture": "amd64", "config": {"Env": ["A=1"], "Healthcheck": {"Test": ["NONE"]}, "Labels": {"a": "b"}},
          "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]}, "history": [{"created_by": "x"}]}  # fmt: skip


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """The document with one part of it, at any depth, replaced by anything."""
    if isinstance(document, dict) and document and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(document)))
        return {**document, key: draw(altered(document[key]))}
    if isinstance(document, list) and document and draw(st.integers(0, 3)):
        return [draw(altered(document[0])), *document[1:]]
    return draw(JSON)


@given(st.text() | st.from_regex(r"[a-zA-Z0-9./:@_-]{1,80}", fullmatch=True))
@example("a/b:c@sha256:" + HEX)
def test_a_reference_that_is_read_means_the_same_when_it_is_written(text: str) -> None:
    with contextlib.suppress(Invalid):
        found = parse_reference(text)
        assert parse_reference(found.familiar) == found == parse_reference(found.canonical)
        assert ".." not in found.repository.split("/") and "\0" not in found.canonical and found.canonical.isprintable()


@given(st.text() | st.binary() | st.from_regex(r"sha(256|512):[0-9a-fA-F/.]{60,130}", fullmatch=True))
def test_a_digest_that_is_read_is_safe_in_a_path(text: object) -> None:
    with contextlib.suppress(Invalid):
        found = parse_digest(text)
        assert set(found.hex) <= set("0123456789abcdef") and found.algorithm in ("sha256", "sha512")


@given(st.binary(max_size=300), st.text(max_size=40))
def test_bytes_are_no_manifest_or_refused(data: bytes, media_type: str) -> None:
    with contextlib.suppress(Invalid):
        parse_manifest(data, media_type=media_type)


@settings(max_examples=300)
@given(altered(MANIFEST))
def test_an_altered_manifest_is_valid_or_refused(document: Any) -> None:
    with contextlib.suppress(Invalid):
        found = parse_manifest(json.dumps(document).encode())
        assert not isinstance(found, Manifest) or all(each.size >= 0 for each in found.layers)


@settings(max_examples=300)
@given(altered(CONFIG))
def test_an_altered_config_is_valid_or_refused(document: Any) -> None:
    with contextlib.suppress(Invalid):
        found = parse_image_config(json.dumps(document).encode())
        assert all("\0" not in each for each in (*found.env, *(found.cmd or ()), found.user, found.working_dir))


@given(st.text(max_size=40))
def test_a_platform_is_valid_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert parse_platform(str(parse_platform(text))) == parse_platform(text)


@given(st.text(max_size=300) | st.from_regex(r'(Bearer|Basic|x) ([a-z]+="[^"]*",?){0,4}', fullmatch=True))
def test_a_challenge_is_always_read(text: str) -> None:
    for scheme, parameters in parse_challenges(text):
        assert scheme == scheme.lower() and all(key == key.lower() for key in parameters)


PARTS = st.sampled_from([b"..", b".", b"", b"a", b"b", b"/", b".wh.x", b"\xff"])
LINES = st.sampled_from(
    ["[[registry]]", "[[registry.mirror]]", 'location = "a.io"', "prefix = '*.a.io'", "insecure = true", "blocked=false", "x = [1, 'a',",
    "]",      "# comment", 'pull-from-mirror = "all"', "[aliases]", '"a" = "b"', "x = 5"]
)  # fmt: skip


@given(st.text(max_size=200) | st.lists(LINES, max_size=12).map("\n".join))
def test_a_registries_conf_is_valid_or_refused(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert endpoints(parse_reference("b.io/x"), parse_registries(text, path="x")), "there is always somewhere to ask"


@given(JSON | altered({"auths": {"a.io": {"auth": "YTpi"}}, "credHelpers": {"b.io": "x"}, "credsStore": "y"}))
def test_an_auth_file_is_valid_or_refused(document: Any) -> None:
    with contextlib.suppress(Invalid):
        found = parse_auth_file(json.dumps(document).encode(), "config.json")
        assert "/" not in found.store and all("/" not in name for name in found.helpers.values()), "a helper is a name, not a path"


@given(st.binary(max_size=5000))
def test_a_pax_header_is_valid_or_refused(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        assert all(key for key in tar.parse_pax(data))


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b", b"/", b".wh.x", b"\xff"]), max_size=8).map(b"/".join) | st.binary(max_size=40)
)
def test_a_placement_never_leaves_the_layer(path: bytes) -> None:
    with contextlib.suppress(Invalid):
        found = unpack.placement(path)
        if found:
            parts = found.path.split(b"/")
            assert all(part not in (b"", b".", b"..") for part in parts) and b"/" not in found.name


def made(names: list[str], contents: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content in zip(names, contents, strict=False):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(data: bytes) -> list[tuple[bytes, bytes]]:
    """The names and contents that our reader finds, given its input in small pieces."""
    found = []
    stream = tar.Stream(iter([data[at : at + 700] for at in range(0, len(data), 700)]), seen=len, limit=1 << 22)
    for entry in tar.entries(stream):
        content = bytearray()

        def keep(view: memoryview, content: bytearray = content) -> int:
            content += view
            return len(view)

        stream.pour(entry.size, keep)
        stream.skip(tar.padding(entry.size))
        found.append((entry.path, bytes(content)))
    stream.drain()
    assert stream.size == len(data), "every byte was seen"
    return found


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=150)


@given(st.lists(NAMES, max_size=5), st.lists(st.binary(max_size=1500), min_size=5, max_size=5))
def test_what_python_s_tarfile_writes_is_read_the_same(names: list[str], contents: list[bytes]) -> None:
    expected = [(name.encode(), content) for name, content in zip(names, contents, strict=False)]
    assert read(made(names, contents)) == expected


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    archive = bytearray(made(["a", "ü" * 120, "c"], [b"1" * 600, b"2", b"3" * 1024]))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del archive[data.draw(st.integers(0, len(archive))) :]
    with contextlib.suppress(Invalid):
        read(bytes(archive))


@given(st.binary(max_size=3000), st.integers(1, 500), st.sampled_from(["gzip", "zstd", "bzip2", "xz"]))
def test_damaged_compression_is_refused_or_gives_bytes(data: bytes, step: int, name: str) -> None:
    chunks = iter([data[at : at + step] for at in range(0, len(data), step)])
    with contextlib.suppress(Invalid):
        assert isinstance(b"".join(codecs.decoder(name)(chunks)), bytes)


@given(st.lists(st.binary(max_size=4000), min_size=1, max_size=4), st.integers(1, 500))
def test_gzip_members_in_any_pieces_give_what_was_packed(parts: list[bytes], step: int) -> None:
    packed = b"".join(gzip.compress(part) for part in parts)
    chunks = iter([packed[at : at + step] for at in range(0, len(packed), step)])
    assert b"".join(codecs.decoder("gzip")(chunks)) == b"".join(parts)
