"""The command line gives the answer of the dispatcher behind it, for every kind of declaration and for every kind of error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bayplan import dispatch, verbs
from bayplan.cli.call import Call
from bayplan.cli.declaration import wanted
from bayplan.cli.options import split
from bayplan.model.result import Request, response_document

MAIN = Path(__file__).parents[2] / "runtime/bayplan/__main__.py"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the dispatcher refuses others")

DOCUMENTS = {
    "a service": "services: {web: {image: 'box:1'}}",
    "a stack": "services: {web: {image: 'box:1', networks: [n], volumes: ['v:/v']}}\nnetworks: {n: {}}\nvolumes: {v: {}}",
    "a dependency": "services: {a: {image: 'box:1', depends_on: [b]}, b: {image: 'box:1'}}",
    "nothing": "services: {}",
    "an unknown key": "services: {web: {image: 'box:1', colour: red}}",
    "a circle": "services: {a: {image: 'box:1', depends_on: [b]}, b: {image: 'box:1', depends_on: [a]}}",
    "one port twice": "services: {a: {image: 'box:1', ports: ['80:80']}, b: {image: 'box:1', ports: ['80:80']}}",
    "never pulled": "services: {a: {image: 'box:1', pull_policy: never}}",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_plan_is_the_dispatchers(text: str, tmp_path: Path) -> None:
    file, root = tmp_path / "compose.yaml", str(tmp_path / "state")
    file.write_text(f"name: shop\n{text}\n")
    verb = verbs.names()["plan"]
    behind = dispatch.handle(Request("converge", wanted(Call(verb, split([], verb.options).values, (str(file),), root)), True, True, root))
    words = [sys.executable, "-I", "-S", str(MAIN), "--root", root, "plan", "--format", "json", str(file)]
    done = subprocess.run(words, capture_output=True, text=True)
    if behind.error is None:
        assert (done.returncode, json.loads(done.stdout)) == (0, json.loads(json.dumps(response_document(behind))))
    else:
        assert (done.returncode, done.stderr) == (1, f"bayplan: {behind.error[1]}\n"), "the same message"
    assert not os.path.exists(root), "a plan makes nothing"
