from __future__ import annotations

import pytest

from bayplan.errors import BayplanError, Invalid, NotFound
from bayplan.kernel.users import Identity, resolve
from bayplan.model.runtime import User

PASSWD = """root:x:0:0:root:/root:/bin/sh
# comment:x:9:9::/:
app:x:1000:1001:App:/home/app:/bin/sh
+nis:x:5:5:::
broken:x:abc:1::/:
short:x:1
huge:x:99999999999:1::/:
nohome:x:7:7:::
1234:x:77:78::/digits:
0:x:33:33::/zero:
"""
GROUP = """root:x:0:
bin:x:1:root,daemon
audio:x:29:app
video:x:44:other,app
staff:x:50:apple
29:x:0:
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (User(), Identity(0, 0, (), "/root")),
        (User(5, 6, (7,)), Identity(5, 6, (7,), "/")),
        (User(username="root"), Identity(0, 0, (0, 1), "/root")),
        (User(username="0"), Identity(0, 0, (0, 1), "/root")),
        (User(username="app"), Identity(1000, 1001, (1001, 29, 44), "/home/app")),
        (User(username="1000"), Identity(1000, 1001, (1001, 29, 44), "/home/app")),
        (User(username="4242"), Identity(4242, 0, (0,), "/")),
        (User(username="app:audio"), Identity(1000, 29, (29,), "/home/app")),
        (User(username="app:77"), Identity(1000, 77, (77,), "/home/app")),
        (User(username="4242:4343"), Identity(4242, 4343, (4343,), "/")),
        (User(username=":50"), Identity(0, 50, (50,), "/root")),
        (User(username="nohome"), Identity(7, 7, (7,), "/")),
        (User(username="1234"), Identity(1234, 0, (0,), "/")),
        (
            User(username="app", additional_groups=("staff", "29", "600")),
            Identity(1000, 1001, (1001, 29, 44, 50, 600), "/home/app"),
        ),
        (User(username="4294967294"), Identity(4294967294, 0, (0,), "/")),
    ],
)
def test_a_user_is_who_the_images_files_say(user: User, expected: Identity) -> None:
    assert resolve(user, PASSWD, GROUP) == expected, "uid, gid, exactly the groups of the files, home"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nobody-here", NotFound),
        ("app:nogroup", NotFound),
        (":", Invalid),
        ("app:", Invalid),
        ("-1", Invalid),
        ("app:-1", Invalid),
        ("4294967295", Invalid),
        ("4294967296", Invalid),
        ("99999999999999999999999999", Invalid),
        ("broken", Invalid),
        ("huge", Invalid),
        ("a:b:c", NotFound),
        ("١٢", NotFound),
        ("+nis", NotFound),
    ],
)
def test_an_odd_user_is_refused_and_never_becomes_root(name: str, error: type[BayplanError]) -> None:
    with pytest.raises(error):
        resolve(User(username=name), PASSWD, GROUP)


def test_without_files_numbers_work_and_names_do_not() -> None:
    assert resolve(User(username="12:34"), "", "") == Identity(12, 34, (34,), "/"), "an image needs no passwd for numbers"
    with pytest.raises(NotFound):
        resolve(User(username="root"), "", "")
