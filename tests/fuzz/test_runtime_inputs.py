"""What an image or another tool's bundle says, in every odd form: a value, or an error of ours; never anything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import BayplanError, Invalid
from bayplan.kernel import mounts, users
from bayplan.model import bundle_document, bundle_parser
from bayplan.model import runtime as r
from bayplan.model.capabilities import granted

LINE = st.text(st.sampled_from("root:x0123456789-+#app, \n"), max_size=200)
NAME = st.text(st.sampled_from("root:app0123456789-+ ٣"), max_size=24)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "process root mounts linux annotations hostname args env cwd user uid gid path options destination type "
    "namespaces resources memory cpu pids limit devices seccomp syscalls names action sysctl rlimits soft hard "
    "capabilities bounding "
).split()
DOCUMENT = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=20,
)


@given(NAME, LINE, LINE, st.lists(NAME, max_size=2))
def test_a_user_is_resolved_within_range_or_refused(name: str, passwd: str, group: str, groups: list[str]) -> None:
    try:
        identity = users.resolve(r.User(username=name, additional_groups=tuple(groups)), passwd, group)
    except BayplanError:
        return
    numbers = (identity.uid, identity.gid, *identity.groups)
    assert all(0 <= number < 2**32 - 1 for number in numbers), "never -1, which would leave root's identity in place"
    if name and not name.startswith(":") and identity.uid == 0:
        first = name.partition(":")[0]
        owns = any(row.strip().split(":")[2:3] == ["0"] or row.strip().split(":")[0] == first for row in passwd.split("\n"))
        assert int(first) == 0 if first.isdecimal() and not owns else True, "a number is not root unless it says 0"


@given(DOCUMENT)
def test_a_bundle_is_parsed_or_invalid(document: object) -> None:
    root = {"path": "/"}
    process = {"args": ["x"]}
    for candidate in (document, {"process": document, "root": root}, {"process": process, "root": root, "linux": document}):
        try:
            config = bundle_parser.parse_config(candidate)
        except Invalid:
            continue
        assert bundle_parser.parse_config(bundle_document.config_document(config)) == config, "what was parsed survives being written"


@given(st.lists(st.text(max_size=12) | st.sampled_from(["ro", "rw", "rbind", "rshared", "size=1"]), max_size=8))
def test_mount_options_never_fail(options: list[str]) -> None:
    parsed = mounts.parse_options(tuple(options))
    assert not parsed.flags & parsed.cleared & ~parsed.cleared, "sorted"


@given(st.lists(st.text(max_size=16), max_size=4), st.lists(st.text(max_size=16), max_size=4))
def test_capabilities_are_known_ones_or_invalid(add: list[str], drop: list[str]) -> None:
    try:
        sets = granted(add=add, drop=drop)
    except Invalid:
        return
    assert sets.inheritable == () and set(sets.effective) == set(sets.bounding), "consistent sets"
