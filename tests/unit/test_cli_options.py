"""The command line's parser: Docker's conventions, and errors that help."""

from __future__ import annotations

import pytest

from bayplan.cli.options import Split, flag, many, number, split, text
from bayplan.errors import Invalid

TABLE = (
    flag("detach -d", ""),
    flag("interactive -i", ""),
    flag("tty -t", ""),
    many("publish -p", "PORT", ""),
    many("env -e", "KEY", ""),
    text("name", "NAME", ""),
    number("stop-timeout", ""),
)


@pytest.mark.parametrize(
    ("argv", "values", "arguments"),
    [
        ([], {}, ()),
        (["-d", "image"], {"detach": ("true",)}, ("image",)),
        (["-dit", "image"], {"detach": ("true",), "interactive": ("true",), "tty": ("true",)}, ("image",)),
        (["-itp", "80", "image"], {"interactive": ("true",), "tty": ("true",), "publish": ("80",)}, ("image",)),
        (["-p80:80", "-p=81:81"], {"publish": ("80:80", "81:81")}, ()),
        (["--publish", "1", "--publish=2", "-p", "3"], {"publish": ("1", "2", "3")}, ()),
        (["--name", "a", "--name", "b"], {"name": ("b",)}, ()),
        (["--name="], {"name": ("",)}, ()),
        (["--detach=false"], {"detach": ("false",)}, ()),
        (["-d=false"], {"detach": ("false",)}, ()),
        (["--detach", "false"], {"detach": ("true",)}, ("false",)),
        (["-e", "-x"], {"env": ("-x",)}, ()),
        (["-e", "A=b=c", "--env=D=e"], {"env": ("A=b=c", "D=e")}, ()),
        (["--stop-timeout", "-1"], {"stop-timeout": ("-1",)}, ()),
        (["-"], {}, ("-",)),
        (["--", "-d", "--name"], {}, ("-d", "--name")),
        (["image", "-d"], {"detach": ("true",)}, ("image",)),
    ],
)
def test_options_are_read_as_dockers_are(argv: list[str], values: dict[str, tuple[str, ...]], arguments: tuple[str, ...]) -> None:
    assert split(argv, TABLE) == Split(values, arguments), "every spelling that Docker takes means the same here"


def test_the_first_argument_ends_the_options_of_run() -> None:
    read = split(["-d", "image", "ls", "-d", "--name", "x", "--"], TABLE, interspersed=False)
    assert read == Split({"detach": ("true",)}, ("image", "ls", "-d", "--name", "x", "--")), "what follows the image is the command's"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--pubish", "80"], "unknown option --pubish; did you mean --publish?"),
        (["--zzzz"], "unknown option --zzzz"),
        (["-z"], "unknown option -z"),
        (["-dz"], "unknown option -z (in -dz)"),
        (["--name"], "the option --name needs a value"),
        (["-p"], "the option -p needs a value"),
        (["--detach=maybe"], "the option --detach is true or false, not 'maybe'"),
        (["--stop-timeout", "soon"], "the option --stop-timeout takes a whole number, not 'soon'"),
        (["--stop-timeout", "1e3"], "the option --stop-timeout takes a whole number, not '1e3'"),
        (["--stop-timeout", "٣"], "the option --stop-timeout takes a whole number, not '٣'"),
    ],
)
def test_a_wrong_option_is_refused_with_one_clear_message(argv: list[str], message: str) -> None:
    with pytest.raises(Invalid) as caught:
        split(argv, TABLE)
    assert str(caught.value) == message, "the message names the option, and the nearest one"
