"""Images that were made here get manifest and blobs when they leave, the same ones on every host."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layer_lab import archive as tar_archive
from layer_lab import directory, entry, sha256

from bayplan.engine import content, images, pull, sealing
from bayplan.engine.state import State, open_state
from bayplan.errors import Invalid, NotFound
from bayplan.model import jsontext
from bayplan.model.digest import Digest, parse_digest
from bayplan.store import blobs, codecs, layers
from bayplan.store.adoption import adopt
from bayplan.store.records import ImageRow

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="layers need root")

DOCUMENT: dict[str, Any] = {"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "config": {"Cmd": ["sh"]}}
EPOCH = 1_500_000_000


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    found = open_state(str(tmp_path / "state"), create=True)
    found.root.create()
    yield found
    assert os.listdir(found.root.staging) == [], "nothing stays in staging"


def layer(state: State, content: bytes, *, name: str = "file") -> Digest:
    upper = Path(state.root.containers) / "upper"
    upper.mkdir()
    upper.chmod(0o755)
    (upper / "etc").mkdir()
    (upper / "etc" / name).write_bytes(content)
    return adopt(state.root, str(upper), epoch=EPOCH).diff_id


def made(state: State, *diff_ids: Digest, name: str = "docker.io/library/made:1", **more: Any) -> ImageRow:
    with pull.using(state.root):
        return sealing.make(state, {**DOCUMENT, **more}, diff_ids=diff_ids, names=(name,))


def base(state: State, path: Path) -> ImageRow:
    """An image that came with an archive of its own, which no packing of ours would make."""
    plain = tar_archive([directory("etc"), entry("etc/base", b"base")])
    path.write_bytes(gzip.compress(plain, 1, mtime=77))
    return images.import_(state, str(path), "base:1")


def manifest_of(state: State, row: ImageRow) -> dict[str, Any]:
    found: dict[str, Any] = jsontext.loads(blobs.read(state.root, sealing.sealed(state, row).descriptor.digest, limit=1 << 20).decode())
    return found


def test_an_image_that_was_made_here_has_no_blob_until_it_leaves(state: State) -> None:
    row = made(state, layer(state, b"1"), layer(state, b"2"))
    assert row.blobs == (row.id,) and row.digest == "" and len(blobs.listed(state.root)) == 1
    sealed = sealing.sealed(state, row)
    assert [each.media_type for each in sealed.manifest.layers] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
    for diff_id, each in zip(row.layers, sealed.manifest.layers):
        data = Path(state.root.blob(each.digest)).read_bytes()
        assert len(data) == each.size and sha256(data) == each.digest and str(sha256(gzip.decompress(data))) == diff_id
        assert data[4:8] == bytes(4), "no time"
    assert images.find(state, "made:1").blobs == sealed.row.blobs, "the record names them from now on"
    again = sealing.sealed(state, images.find(state, "made:1"))
    assert again == sealed, "nothing is made twice"
    assert images.look_up(state, "made:1") == sealed.row


def test_two_states_make_the_same_manifest(state: State, tmp_path: Path) -> None:
    other = open_state(str(tmp_path / "other"), create=True)
    other.root.create()
    found = [sealing.sealed(each, made(each, layer(each, b"1" * 100_000), layer(each, b"2"))).descriptor for each in (state, other)]
    assert found[0] == found[1]


def test_a_layer_that_came_from_elsewhere_keeps_its_own_archive_even_without_its_image(state: State, tmp_path: Path) -> None:
    below = base(state, tmp_path / "base.tar.gz")
    row = made(state, parse_digest(below.layers[0]), layer(state, b"1"))
    images.remove(state, "base:1")
    content.remove_unneeded(state)
    sealed = sealing.sealed(state, row)
    assert sealed.manifest.layers[0].digest == sha256((tmp_path / "base.tar.gz").read_bytes())
    content.remove_unneeded(state)
    assert sealing.sealed(state, images.find(state, "made:1")) == sealed, "all of it stays"


def test_a_layer_whose_archive_is_gone_is_an_error_with_a_remedy(state: State, tmp_path: Path) -> None:
    below = base(state, tmp_path / "base.tar.gz")
    row = made(state, parse_digest(below.layers[0]))
    blobs.remove(state.root, sha256((tmp_path / "base.tar.gz").read_bytes()))
    with pytest.raises(NotFound, match="came from elsewhere"):
        sealing.sealed(state, row)
    images.import_(state, str(tmp_path / "base.tar.gz"), "base:1")
    assert sealing.sealed(state, row).manifest.layers[0].size == (tmp_path / "base.tar.gz").stat().st_size


def test_zstd_and_no_compression_are_there_too(state: State) -> None:
    row = made(state, layer(state, b"x" * 3_000_000))
    sealed = sealing.sealed(state, row, compression="zstd")
    data = Path(state.root.blob(sealed.manifest.layers[0].digest)).read_bytes()
    assert str(sha256(b"".join(codecs.decoder("zstd")(iter([data]))))) == row.layers[0]
    assert sealed.manifest.layers[0].media_type.endswith("+zstd")
    plain = made(state, layer(state, b"y"), name="docker.io/library/plain:1")
    assert str(sealing.sealed(state, plain, compression="").manifest.layers[0].digest) == plain.layers[0]
    with pytest.raises(Invalid, match="'lzma' is none of"):
        sealing.sealed(state, plain, compression="lzma")


def test_what_is_made_twice_is_one_image_and_keeps_what_it_has(state: State) -> None:
    diff_id = layer(state, b"1")
    sealed = sealing.sealed(state, made(state, diff_id)).row
    assert made(state, diff_id, name="docker.io/library/again:1") == sealed
    assert set(images.view(state, sealed).names) == {"made:1", "again:1"}


def test_an_image_without_layers_and_one_that_has_a_layer_twice_are_sealed(state: State) -> None:
    assert sealing.sealed(state, made(state)).manifest.layers == ()
    diff_id = layer(state, b"1")
    first, second = sealing.sealed(state, made(state, diff_id, diff_id)).manifest.layers
    assert first == second


def test_a_layer_that_is_not_there_makes_no_image(state: State) -> None:
    with pytest.raises(NotFound, match="is not in the store"):
        made(state, sha256(b"nothing"))
    assert images.all_images(state) == ()


def test_saving_makes_an_archive_that_loads_elsewhere(state: State, tmp_path: Path) -> None:
    row = made(state, layer(state, b"1"), history=[{"created_by": "RUN it"}])
    images.save(state, ("made:1",), str(tmp_path / "saved.tar"))
    other = open_state(str(tmp_path / "other"), create=True)
    (loaded,) = images.load(other, str(tmp_path / "saved.tar"))
    assert (loaded.id, loaded.layers) == (row.id, row.layers)
    assert layers.size(other.root, parse_digest(row.layers[0])) == layers.size(state.root, parse_digest(row.layers[0]))
    with tarfile.open(tmp_path / "saved.tar") as file:
        assert {"manifest.json", "index.json", "oci-layout"} <= set(file.getnames())


def test_a_layer_of_many_chunks_is_sealed_whole(state: State) -> None:
    diff_id = layer(state, os.urandom(1 << 20) * 40, name="large")
    buffer = io.BytesIO()
    sealed = sealing.sealed(state, made(state, diff_id))
    for piece in codecs.decoder("gzip")(iter([Path(state.root.blob(sealed.manifest.layers[0].digest)).read_bytes()])):
        buffer.write(piece)
    assert sha256(buffer.getvalue()) == diff_id
