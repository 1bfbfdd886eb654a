"""Names of images and digests."""

from __future__ import annotations

import pytest

from bayplan.errors import Invalid
from bayplan.model.digest import Digest, parse_digest
from bayplan.model.reference import Reference, parse_reference

HEX = "0123456789abcdef" * 4
DIGEST = Digest("sha256", HEX)

READ = [
    ("nginx", Reference("docker.io", "library/nginx", "latest"), "nginx:latest"),
    ("nginx:1.25", Reference("docker.io", "library/nginx", "1.25"), "nginx:1.25"),
    ("docker.io/nginx", Reference("docker.io", "library/nginx", "latest"), "nginx:latest"),
    ("index.docker.io/library/nginx", Reference("docker.io", "library/nginx", "latest"), "nginx:latest"),
    ("grafana/grafana:10", Reference("docker.io", "grafana/grafana", "10"), "grafana/grafana:10"),
    ("localhost/x", Reference("localhost", "x", "latest"), "localhost/x:latest"),
    ("localhost:5000/x", Reference("localhost:5000", "x", "latest"), "localhost:5000/x:latest"),
    ("ghcr.io/a/b/c:v1", Reference("ghcr.io", "a/b/c", "v1"), "ghcr.io/a/b/c:v1"),
    ("[::1]:5000/x:1", Reference("[::1]:5000", "x", "1"), "[::1]:5000/x:1"),
    (f"x@sha256:{HEX}", Reference("docker.io", "library/x", None, DIGEST), f"x@sha256:{HEX}"),
    (f"q.io/x:1@sha256:{HEX}", Reference("q.io", "x", "1", DIGEST), f"q.io/x:1@sha256:{HEX}"),
    ("host:5000", Reference("docker.io", "library/host", "5000"), "host:5000"),
    ("library/library/x", Reference("docker.io", "library/library/x", "latest"), "library/library/x:latest"),
    ("a--b/c__d.e", Reference("docker.io", "a--b/c__d.e", "latest"), "a--b/c__d.e:latest"),
]


@pytest.mark.parametrize(("text", "expected", "familiar"), READ, ids=[each[0] for each in READ])
def test_a_name_is_read_as_docker_reads_it(text: str, expected: Reference, familiar: str) -> None:
    found = parse_reference(text)
    assert found == expected, "registry, repository, tag and digest are those that docker would use"
    assert str(found) == familiar, "it is written as people write it"
    assert parse_reference(found.canonical) == found, "the canonical form means the same"


@pytest.mark.parametrize(
    "text",
    ["", "Nginx", "a:b:c", "x/Y", "x:", ":x", "x@", "x@sha256:12", f"x@md5:{HEX}", "a//b", "/a", "a/", "a/../b", "-a", "a_-b",
     "a..b", "x:-1", "x:" + "a" * 129, "a/" * 200 + "a", "x y", "x\n", "x:1\n", "host:99999999/x", "-h.io/x", "a\0b", "é", "x:é",
     "http://x/y", "x?y", "x%2fy", "--help", f"x@sha256:{HEX.upper()}", f"x@sha256:{HEX}\n"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_reference(text)


def test_a_name_at_a_digest_keeps_its_repository_and_loses_its_tag() -> None:
    assert parse_reference("ghcr.io/a/b:1").with_digest(DIGEST).familiar == f"ghcr.io/a/b@sha256:{HEX}"


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_a_digest_is_read_and_written_unchanged(text: str) -> None:
    assert str(parse_digest(text)) == text


@pytest.mark.parametrize(
    "text", ["", "sha256:", f"sha256:{HEX}0", f"sha256:{HEX[1:]}", f"sha1:{HEX[:40]}", f"sha256:../{HEX[3:]}", f"sha256:{HEX[:-1]}\n",
             f"SHA256:{HEX}", f"sha512:{HEX}", None, 5, [f"sha256:{HEX}"]]
)  # fmt: skip
def test_what_is_no_digest_never_becomes_part_of_a_path(text: object) -> None:
    with pytest.raises(Invalid):
        parse_digest(text)
