"""The words of a mount's options, as they are sorted before anything is mounted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.kernel import linux
from bayplan.kernel.mountoptions import OPTIONS, parse_options, parse_propagation

# runtime-spec 1.2, config.md, "Linux mount options"
SPECIFIED = """async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec noiversion
nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev
rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid
rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap""".split()


def test_every_word_of_the_specification_is_known() -> None:
    assert sorted(OPTIONS) == sorted(SPECIFIED), "no more, no fewer, none twice"
    assert [word for word in SPECIFIED if parse_options((word,)).data] == [], "none is handed to a file system"


@given(st.lists(st.sampled_from(SPECIFIED), max_size=12))
def test_nothing_is_both_set_and_cleared(words: list[str]) -> None:
    parsed = parse_options(tuple(words))
    assert not parsed.flags & parsed.cleared, "of the flags"
    assert not parsed.recursive & parsed.recursive_cleared & ~linux.MOUNT_ATTR_ATIME, "nor of the recursive ones"
    if parsed.recursive & linux.MOUNT_ATTR_ATIME:
        assert parsed.recursive_cleared & linux.MOUNT_ATTR_ATIME == linux.MOUNT_ATTR_ATIME, "the field is cleared before it is set"


def test_several_propagations_stay_in_their_order() -> None:
    assert parse_options(("rslave", "ro", "shared")).propagation == (linux.MS_SLAVE | linux.MS_REC, linux.MS_SHARED), "slave, then shared"


def test_a_file_systems_own_options_stay_in_their_order() -> None:
    assert parse_options(("size=1m", "ro", "mode=700", "nofail", "gid=5")).data == "size=1m,mode=700,gid=5", "as they were given"


def test_a_propagation_is_one_of_the_specifications() -> None:
    assert parse_propagation("rslave") == linux.MS_SLAVE | linux.MS_REC, "as mount(2) says it"
    with pytest.raises(Invalid, match="rootfsPropagation is ''"):
        parse_propagation("")
