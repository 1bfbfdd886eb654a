"""The policy on pulls from a real registry: names that are refused, digests that are listed, signatures as cosign makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from layer_lab import archive, entry
from registry_lab import RUNTIME, Front, Handler, Image, front, pull, push_blob, push_image, push_manifest, registry, send
from signing_lab import Key, bundle, layer, make_key, payload, push_bundles, push_signatures, sign, statement, tag_of

from bayplan.engine.policy import verify_push
from bayplan.errors import Refused
from bayplan.model.reference import parse_reference
from bayplan.registry.http import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacking layers needs root")


class Lab(NamedTuple):
    """A registry with a front that remembers what it was asked, one image, and two keys."""

    server: str
    front: Front
    directory: Path
    key: Key
    other: Key

    def push(self, repository: str, tag: str = "1", content: bytes = b"x") -> Image:
        return push_image(self.server, repository, tag, [archive([entry("a", content)])])

    def pull(self, reference: str, rules: Any, root: Path, **options: Any) -> dict[str, Any]:
        """Pull by the front's name, under a policy whose patterns are below that name ("" is the whole registry)."""
        policy = root / "policy.json"
        named = {key if key.startswith("*") else f"{self.front.name}/{key or '*'}": value for key, value in rules.items()}
        policy.write_text(json.dumps({"rules": named}))
        self.front.asked.clear()
        environment = {"BAYPLAN_POLICY": str(policy)}
        return pull(f"{self.front.name}/{reference}", str(root / "state"), environment=environment, **options)

    def blobs_asked(self) -> list[str]:
        return [each.path for each in self.front.asked if "/blobs/" in each.path]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("registry")
    with registry(directory) as server, front(server) as before:
        yield Lab(server, before, directory, make_key(directory, "ours"), make_key(directory, "other"))


def by(*keys: Key, **more: Any) -> dict[str, Any]:
    return {"": {"signed_by": {"keys": [str(key.public) for key in keys], **more}}}


def refused(answer: dict[str, Any], said: str) -> None:
    assert answer.get("error") == "denied", answer
    assert said in answer["message"], answer


# Names


@pytest.mark.parametrize("verb", ["head", "resolve", "pull"])
def test_what_is_denied_by_name_opens_no_connection_and_makes_no_state(lab: Lab, tmp_path: Path, verb: str) -> None:
    lab.push("app")
    refused(lab.pull("app:1", {"*": {"pull": "deny"}}, tmp_path, verb=verb), "denies pulls of *")
    assert not lab.front.asked and not (tmp_path / "state").exists()


def test_a_mirror_of_what_is_denied_is_not_asked_either(lab: Lab, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "reg.example"\n[[registry.mirror]]\nlocation = "{lab.front.name}"\n')
    policy = tmp_path / "policy.json"
    policy.write_text('{"rules": {"reg.example/*": {"pull": "deny"}}}')
    lab.front.asked.clear()
    environment = {"BAYPLAN_POLICY": str(policy)}
    answer = pull("reg.example/app:1", str(tmp_path / "state"), environment=environment, registries_conf=str(conf))
    refused(answer, "denies pulls of reg.example/*")
    assert not lab.front.asked


@pytest.mark.parametrize("content", ["{", '{"rules": {"*": {"pul": "deny"}}}', "", "rules"])
def test_a_broken_policy_refuses_everything(lab: Lab, tmp_path: Path, content: str) -> None:
    lab.push("app")
    (tmp_path / "policy.json").write_text(content)
    lab.front.asked.clear()
    answer = pull(f"{lab.front.name}/app:1", str(tmp_path / "state"), environment={"BAYPLAN_POLICY": str(tmp_path / "policy.json")})
    refused(answer, str(tmp_path / "policy.json"))
    assert not lab.front.asked


@pytest.mark.parametrize("kind", ["directory", "absent", "dangling link"])
def test_a_policy_that_cannot_be_read_refuses_everything(lab: Lab, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "policy.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    lab.front.asked.clear()
    answer = pull(f"{lab.front.name}/app:1", str(tmp_path / "state"), environment={"BAYPLAN_POLICY": str(path)})
    refused(answer, str(path))
    assert not lab.front.asked


# Digests


def test_only_what_is_named_by_digest_comes(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("pinned")
    refused(lab.pull("pinned:1", {"": {"pinned": True}}, tmp_path), "only by digest")
    assert not lab.front.asked
    assert lab.pull(f"pinned@{image.manifest}", {"": {"pinned": True}}, tmp_path).get("config") == image.config


def test_a_tag_that_moved_to_a_digest_that_is_not_listed_is_refused_before_a_blob_is_fetched(lab: Lab, tmp_path: Path) -> None:
    first = lab.push("moved", content=b"1")
    rules = {"moved": {"pinned": {"1": [first.manifest]}}}
    assert lab.pull("moved:1", rules, tmp_path).get("digest") == first.manifest
    second = lab.push("moved", content=b"2")
    refused(lab.pull("moved:1", rules, tmp_path), second.manifest)
    assert not lab.blobs_asked()


# Signatures


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa"])
def test_an_image_that_a_known_key_signed_comes(lab: Lab, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, "k", kind)
    image = lab.push(f"signed-{kind}")
    sign(lab.server, f"signed-{kind}", image.manifest, lab.other, key)
    assert lab.pull(f"signed-{kind}:1", by(key), tmp_path).get("config") == image.config


def test_a_key_may_stand_in_the_policy_itself(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("inline")
    sign(lab.server, "inline", image.manifest, lab.key)
    assert lab.pull("inline:1", {"": {"signed_by": {"keys": [lab.key.pem]}}}, tmp_path).get("config") == image.config


def test_an_image_that_nobody_signed_is_refused_before_its_config_and_layers_are_fetched(lab: Lab, tmp_path: Path) -> None:
    lab.push("unsigned")
    refused(lab.pull("unsigned:1", by(lab.key), tmp_path), "there is no signature beside it")
    assert not lab.blobs_asked() and not list((tmp_path / "state").glob("layers/*"))


def test_a_signature_by_another_key_does_not_do(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("foreign")
    sign(lab.server, "foreign", image.manifest, lab.other)
    refused(lab.pull("foreign:1", by(lab.key), tmp_path), "another key")


def test_all_keys_have_to_sign_where_the_policy_wants_all(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("both")
    sign(lab.server, "both", image.manifest, lab.key)
    refused(lab.pull("both:1", by(lab.key, lab.other, need="all"), tmp_path), str(lab.other.public))
    assert lab.pull("both:1", by(lab.key, lab.other, need="one"), tmp_path).get("config") == image.config
    sign(lab.server, "both", image.manifest, lab.key, lab.other)
    assert lab.pull("both:1", by(lab.key, lab.other, need="all"), tmp_path).get("config") == image.config


def test_a_signature_of_another_image_does_not_do(lab: Lab, tmp_path: Path) -> None:
    good, bad = lab.push("swap", "good", b"good"), lab.push("swap", "bad", b"bad")
    data = payload(good.manifest)
    push_signatures(lab.server, "swap", bad.manifest, [layer(lab.server, "swap", data, lab.key.sign(data))])
    refused(lab.pull("swap:bad", by(lab.key), tmp_path), "another image")


def test_a_payload_that_was_changed_after_it_was_signed_does_not_do(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("changed")
    signature = lab.key.sign(payload("sha256:" + "0" * 64))
    push_signatures(lab.server, "changed", image.manifest, [layer(lab.server, "changed", payload(image.manifest), signature)])
    refused(lab.pull("changed:1", by(lab.key), tmp_path), "another key, or over something else")


def test_what_a_key_signed_for_another_purpose_is_no_signature(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("purpose")
    data = payload(image.manifest, type="atomic container signature")
    push_signatures(lab.server, "purpose", image.manifest, [layer(lab.server, "purpose", data, lab.key.sign(data))])
    refused(lab.pull("purpose:1", by(lab.key), tmp_path), "signs no image")


def test_the_repository_counts_where_the_policy_says_so(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("place")
    for said, does in ((f"{lab.front.name}/place", True), (f"{lab.front.name}/elsewhere", False), ("", False), ("%%", False)):
        data = payload(image.manifest, said)
        push_signatures(lab.server, "place", image.manifest, [layer(lab.server, "place", data, lab.key.sign(data))])
        assert lab.pull("place:1", by(lab.key), tmp_path).get("config") == image.config, "cosign does not compare it"
        answer = lab.pull("place:1", by(lab.key, identity="repository"), tmp_path)
        assert ("config" in answer) == does, answer


def index_of(lab: Lab, repository: str, tag: str, *images: Image) -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
    platform = {"os": "linux", "architecture": machine}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": each.manifest,
                "size": size(lab, repository, each),
                "platform": platform,
            }
            for each in images
        ],
    }
    return push_manifest(lab.server, repository, tag, document)


def size(lab: Lab, repository: str, image: Image) -> int:
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    return len(send(lab.server, "GET", f"/v2/{repository}/manifests/{image.manifest}", headers=accept)[2])


def test_an_index_needs_its_own_signature(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.push("index", "a", b"a"), lab.push("index", "b", b"b")
    one, two = index_of(lab, "index", "one", first), index_of(lab, "index", "two", second)
    sign(lab.server, "index", one, lab.key)
    assert lab.pull("index:one", by(lab.key), tmp_path).get("config") == first.config
    data = payload(one)
    push_signatures(lab.server, "index", two, [layer(lab.server, "index", data, lab.key.sign(data))])
    refused(lab.pull("index:two", by(lab.key), tmp_path), "another image")
    refused(lab.pull(f"index@{first.manifest}", by(lab.key), tmp_path), "no signature")


def answering(path: str, image: Image, server: str, later: Image) -> Callable[[Handler], bool]:
    """A registry that calls the signed image by a tag the first time, and another one ever after."""
    seen: list[str] = []

    def fault(handler: Handler) -> bool:
        if not handler.path.endswith(path):
            return False
        handler.path = handler.path.replace(path, f"/manifests/{(later if seen else image).manifest}")
        seen.append(handler.path)
        handler.relay()
        return True

    return fault


def test_the_digest_that_was_verified_is_the_one_that_is_pulled(lab: Lab, tmp_path: Path) -> None:
    good, bad = lab.push("race", "1", b"good"), lab.push("race", "2", b"bad")
    sign(lab.server, "race", good.manifest, lab.key)
    for faulty in (answering("/manifests/1", good, lab.server, bad), answering("/manifests/1", bad, lab.server, good)):
        with front(lab.server, faulty) as before:
            here = lab._replace(front=before)
            answer = here.pull("race:1", by(lab.key), tmp_path)
            assert answer.get("config") == good.config or answer.get("error") == "denied", "never the other one"
            asked = [each.path for each in before.asked if each.path.endswith("/manifests/1")]
            assert len(asked) == 1, "a tag is asked for once: what it means later does not matter"


def test_of_a_thousand_signatures_the_newest_hundred_are_looked_at(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("crowd")
    data = payload(image.manifest)
    ours, noise = layer(lab.server, "crowd", data, lab.key.sign(data)), layer(lab.server, "crowd", data, lab.other.sign(data))
    push_signatures(lab.server, "crowd", image.manifest, [*[noise] * 999, ours])
    assert lab.pull("crowd:1", by(lab.key), tmp_path).get("config") == image.config
    push_signatures(lab.server, "crowd", image.manifest, [ours, *[noise] * 999])
    refused(lab.pull("crowd:1", by(lab.key), tmp_path), "900 older ones")
    assert len(lab.front.asked) < 10, "one payload is fetched once"


@pytest.mark.parametrize("layers", ["giant", "lying", "another", "unsigned", "no base64", "not strict"])
def test_a_bad_signature_is_passed_over_and_a_good_one_beside_it_counts(lab: Lab, tmp_path: Path, layers: str) -> None:
    repository = f"bad-{layers.replace(' ', '-')}"
    image = lab.push(repository)
    data = payload(image.manifest)
    signature = lab.key.sign(data)
    giant = data[:-1] + b" " * (70 << 10) + b"}"
    bad = {
        "giant": layer(lab.server, repository, giant, lab.key.sign(giant)),
        "lying": layer(lab.server, repository, giant, lab.key.sign(giant), size=100),
        "another": {**layer(lab.server, repository, data, signature), "digest": push_blob(lab.server, repository, b"something else")},
        "unsigned": {**layer(lab.server, repository, data, signature), "annotations": {}},
        "no base64": {**layer(lab.server, repository, data, signature), "annotations": {"dev.cosignproject.cosign/signature": "%"}},
        "not strict": layer(lab.server, repository, data, signature + b"\0"),
    }[layers]
    push_signatures(lab.server, repository, image.manifest, [bad])
    refused(lab.pull(f"{repository}:1", by(lab.key), tmp_path), "it is not")
    push_signatures(lab.server, repository, image.manifest, [layer(lab.server, repository, data, signature), bad])
    assert lab.pull(f"{repository}:1", by(lab.key), tmp_path).get("config") == image.config


def test_what_stands_at_the_tag_and_is_no_list_of_signatures_refuses(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("odd")
    lab.push("odd", tag_of(image.manifest), b"an image")
    refused(lab.pull("odd:1", by(lab.key), tmp_path), "no signature")


@pytest.mark.parametrize("key", ["/nonexistent/key.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_a_key_that_cannot_be_used_refuses_before_any_connection(lab: Lab, tmp_path: Path, key: str) -> None:
    lab.push("app")
    answer = lab.pull("app:1", {"": {"signed_by": {"keys": [key]}}}, tmp_path)
    assert answer.get("error") == "denied" and not lab.front.asked, answer


# Signatures in bundles


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_a_bundle_by_a_known_key_does_and_the_others_beside_it_do_no_harm(lab: Lab, tmp_path: Path, kind: str) -> None:
    key, repository = make_key(tmp_path, "k", kind), f"bundled-{kind}"
    image = lab.push(repository)
    said = statement(image.manifest)
    others = [bundle(said, lab.other), b"{}", b"rubbish", json.dumps({"messageSignature": {}}).encode(), b" " * (2 << 20)]
    push_bundles(lab.server, repository, image.manifest, others)
    refused(lab.pull(f"{repository}:1", by(key), tmp_path), "it is not")
    push_bundles(lab.server, repository, image.manifest, [bundle(said, key), *others])
    assert lab.pull(f"{repository}:1", by(key), tmp_path).get("config") == image.config


def test_a_statement_that_does_not_sign_or_is_about_another_image_does_not_do(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("stated")
    attested = bundle(statement(image.manifest, predicate="https://slsa.dev/provenance/v1"), lab.key)
    push_bundles(lab.server, "stated", image.manifest, [attested])
    refused(lab.pull("stated:1", by(lab.key), tmp_path), "signs no image")
    push_bundles(lab.server, "stated", image.manifest, [bundle(statement("sha256:" + "0" * 64), lab.key)])
    refused(lab.pull("stated:1", by(lab.key), tmp_path), "another image")


def test_a_registry_s_own_list_of_referrers_is_asked_first(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("listed")
    push_bundles(lab.server, "listed", image.manifest, [bundle(statement(image.manifest), lab.key)])
    tag = image.manifest.replace(":", "-")

    def lists(handler: Handler) -> bool:
        if f"/manifests/{tag}" in handler.path and not handler.path.endswith(".sig"):
            handler.answer(404, {})
            return True
        if "/referrers/" not in handler.path:
            return False
        accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
        status, headers, body = send(lab.server, "GET", f"/v2/listed/manifests/{tag}", headers=accept)
        handler.answer(status, headers, body)
        return True

    with front(lab.server, lists) as before:
        answer = lab._replace(front=before).pull("listed:1", by(lab.key), tmp_path)
    assert answer.get("config") == image.config, answer


def test_one_key_may_sign_by_a_payload_and_the_other_by_a_bundle(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("mixed")
    sign(lab.server, "mixed", image.manifest, lab.key)
    push_bundles(lab.server, "mixed", image.manifest, [bundle(statement(image.manifest), lab.other)])
    assert lab.pull("mixed:1", by(lab.key, lab.other, need="all"), tmp_path).get("config") == image.config


# Whoever pulls


CONVERGE = """
import json, sys
from bayplan.task import run_task
ask = json.loads(sys.argv[1])
want = {"services": {"web": {"image": ask["image"], "pull_policy": ask["pull"]}}, "networks": {"shop": {}}, "x-bayplan": {}}
print(json.dumps(run_task({"verb": "converge", "want": want, "check": ask["check"], "root": ask["root"]})))
"""


def converge(lab: Lab, tmp_path: Path, rules: Any, *, check: bool, pull: str = "missing") -> dict[str, Any]:
    (tmp_path / "policy.json").write_text(json.dumps({"rules": rules}))
    ask = {"image": f"{lab.front.name}/converged:1", "pull": pull, "check": check, "root": str(tmp_path / "state")}
    environment = {**os.environ, "PYTHONPATH": RUNTIME, "BAYPLAN_POLICY": str(tmp_path / "policy.json")}
    done = subprocess.run([sys.executable, "-c", CONVERGE, json.dumps(ask)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
@pytest.mark.parametrize("pull", ["missing", "always"])
def test_a_converge_is_refused_before_it_makes_anything(lab: Lab, tmp_path: Path, check: bool, pull: str) -> None:
    lab.push("converged")
    lab.front.asked.clear()
    answer = converge(lab, tmp_path, {"*": {"pull": "deny"}}, check=check, pull=pull)
    assert "denies pulls of *" in json.dumps(answer), answer
    assert not lab.front.asked and not (tmp_path / "state").exists()


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_a_converge_that_always_pulls_does_not_fall_back_to_an_older_copy_of_what_nobody_signed(
    lab: Lab, tmp_path: Path, check: bool
) -> None:
    lab.push("converged")
    answer = converge(lab, tmp_path, {"*": {"signed_by": {"keys": [str(lab.key.public)]}}}, check=check, pull="always")
    assert "there is no signature beside it" in json.dumps(answer), answer


@pytest.mark.parametrize("verb", ["pull", "run", "create"])
def test_the_command_line_asks_too(lab: Lab, tmp_path: Path, verb: str) -> None:
    lab.push("converged")
    (tmp_path / "policy.json").write_text(json.dumps({"rules": {"*": {"signed_by": {"keys": [str(lab.key.public)]}}}}))
    command = [sys.executable, "-I", "-S", f"{RUNTIME}/bayplan/__main__.py", "--root", str(tmp_path / "state"), verb]
    environment = {**os.environ, "BAYPLAN_POLICY": str(tmp_path / "policy.json")}
    done = subprocess.run([*command, f"{lab.front.name}/converged:1"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 125) and "there is no signature beside it" in done.stderr, done


def test_a_push_is_refused_under_its_own_name_and_under_that_of_the_place_that_it_would_go_to(tmp_path: Path) -> None:
    conf, policy = tmp_path / "registries.conf", tmp_path / "policy.json"
    conf.write_text('[[registry]]\nprefix = "inside.example/out"\nlocation = "docker.io/me"\n')
    policy.write_text('{"rules": {"docker.io/*": {"push": "deny"}}}')
    settings = Settings({"BAYPLAN_POLICY": str(policy), "CONTAINERS_REGISTRIES_CONF": str(conf)})
    verify_push(parse_reference("inside.example/kept/app"), settings)
    for name in ("me/app", "DOCKER.IO:443/me/app", "inside.example/out/app"):
        with pytest.raises(Refused, match=r"denies pushes to docker\.io"):
            verify_push(parse_reference(name), settings)


# Whoever pushes and copies


def bayplan(tmp_path: Path, rules: Any, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "policy.json").write_text(json.dumps({"rules": rules}))
    environment = {**os.environ, "HOME": str(tmp_path), "BAYPLAN_POLICY": str(tmp_path / "policy.json")}
    command = [sys.executable, "-I", "-S", f"{RUNTIME}/bayplan/__main__.py", "--root", str(tmp_path / "state"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_push_that_is_denied_opens_no_connection(lab: Lab, tmp_path: Path) -> None:
    lab.push("pushed")
    name = f"{lab.front.name}/pushed:2"
    assert bayplan(tmp_path, {}, "pull", f"{lab.front.name}/pushed:1").returncode == 0
    assert bayplan(tmp_path, {}, "tag", f"{lab.front.name}/pushed:1", name).returncode == 0
    lab.front.asked.clear()
    done = bayplan(tmp_path, {"*": {"push": "deny"}}, "push", name)
    assert done.returncode == 1 and "denies pushes to *" in done.stderr, done
    done = bayplan(tmp_path, {"*": {"push": "deny"}}, "copy", f"store:{lab.front.name}/pushed:1", f"docker://{name}")
    assert done.returncode == 1 and "denies pushes to *" in done.stderr and not lab.front.asked, done
    assert bayplan(tmp_path, {"*": {"push": "deny"}, f"{lab.front.name}/*": {"push": "allow"}}, "push", name).returncode == 0


def test_a_copy_takes_only_what_the_policy_wants(lab: Lab, tmp_path: Path) -> None:
    image = lab.push("copied")
    rules = {"*": {"signed_by": {"keys": [str(lab.key.public)]}}}
    words = ("copy", f"docker://{lab.front.name}/copied:1", f"oci:{tmp_path}/layout:1")
    done = bayplan(tmp_path, rules, *words)
    assert done.returncode == 1 and "there is no signature beside it" in done.stderr and not (tmp_path / "layout").exists(), done
    sign(lab.server, "copied", image.manifest, lab.key)
    assert bayplan(tmp_path, rules, *words).returncode == 0
    lab.front.asked.clear()
    done = bayplan(tmp_path, {"*": {"pull": "deny"}}, *words)
    assert done.returncode == 1 and "denies pulls of *" in done.stderr and not lab.front.asked, done


# Looking at it


def test_a_policy_is_checked_with_its_keys_and_shown_for_an_image(lab: Lab, tmp_path: Path) -> None:
    rules: Any = {"*": {"push": "deny"}, "reg.example/*": by(lab.key)[""], "docker.io/nginx": {"pinned": True}}
    done = bayplan(tmp_path, rules, "policy", "check")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/policy.json: 3 rules\n"), done
    done = bayplan(tmp_path, rules, "policy", "show", "reg.example/x")
    assert f"pull: allowed, signed by {lab.key.public}" in done.stdout and "push: refused" in done.stdout, done
    assert "only by digest" in bayplan(tmp_path, rules, "policy", "show", "nginx").stdout
    (tmp_path / "new.json").write_text(json.dumps({"rules": {"*": {"signed_by": {"keys": [str(lab.key.private)]}}}}))
    done = bayplan(tmp_path, rules, "policy", "check", str(tmp_path / "new.json"))
    assert done.returncode == 1 and "PUBLIC KEY" in done.stderr and "PRIVATE" not in done.stderr, done
