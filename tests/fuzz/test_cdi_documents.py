"""CDI files come from vendors: whatever is in one, it is read or refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.model.bundle_document import config_document
from bayplan.model.bundle_parser import parse_config
from bayplan.model.cdi import inject, parse_name, parse_spec
from bayplan.model.node import Node
from bayplan.model.runtime import Config, Process, Root

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_words = st.sampled_from(["/dev/x", "/x", "A=1", "c", "b", "rw", "none", "poststop", "rbind", "0.7.0", "vendor.com/class"])
_KEYS = (
    "cdiVersion kind devices containerEdits name env deviceNodes mounts hooks additionalGids intelRdt path hostPath type major minor"
    " fileMode permissions uid gid containerPath options hookName args timeout closID enableCMT"
).split()
_values = st.recursive(
    _scalars | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), inner),
    max_leaves=12,
)
_node = st.fixed_dictionaries(
    {"path": _words}, optional=dict.fromkeys(("hostPath", "type", "major", "permissions", "fileMode", "uid"), _values)
)
_mount = st.fixed_dictionaries(
    {"hostPath": _words, "containerPath": _words}, optional={"options": st.lists(_words, max_size=2), "type": _values}
)
_hook = st.fixed_dictionaries({"hookName": _words, "path": _words}, optional=dict.fromkeys(("args", "env", "timeout"), _values))
_lists = {"env": _words, "deviceNodes": _node, "mounts": _mount, "hooks": _hook, "additionalGids": st.integers(0, 9)}
_edits = st.fixed_dictionaries({}, optional={key: st.lists(each, max_size=2) for key, each in _lists.items()})
_likely = st.fixed_dictionaries(
    {
        "cdiVersion": st.just("0.7.0"),
        "kind": st.just("vendor.com/class"),
        "devices": st.lists(st.fixed_dictionaries({"name": st.sampled_from("ab"), "containerEdits": _edits}), min_size=1, max_size=2),
    },
    optional={"containerEdits": _edits, "annotations": _values},
)


@given(_values | _likely)
def test_a_document_is_read_or_refused_and_what_it_makes_is_a_configuration(document: Any) -> None:
    try:
        spec = parse_spec(document, "f")
    except Invalid:
        return
    config = Config(Process(("x",)), Root("/"))
    for _, edits in (*spec.devices, ("", spec.edits)):
        known = edits._replace(nodes=tuple(node._replace(type=node.type or "c") for node in edits.nodes))
        made = inject(config, (known,))
        assert parse_config(config_document(made)) == made, "what was injected survives being written"


@given(st.text(max_size=40) | st.from_regex(r"[a-z./=:-]{1,20}", fullmatch=True))
def test_a_name_is_one_or_refused(text: str) -> None:
    try:
        assert parse_name(Node(text, "x")) == text, "as it is"
    except Invalid:
        return
    assert text.isascii() and text.count("/") >= 1 and "\n" not in text and ".." not in text.split("/"), "of harmless characters"
