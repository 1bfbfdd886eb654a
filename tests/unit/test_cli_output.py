"""What the command line shows: tables, templates, times, sizes; and that nothing from outside reaches a terminal raw."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayplan import verbs
from bayplan.cli import moments
from bayplan.cli.call import Call
from bayplan.cli.options import split
from bayplan.cli.output import json_text, listing, printable, quoted
from bayplan.cli.template import parse, render
from bayplan.errors import Invalid

DOCUMENT = {
    "ID": "0123456789ab",
    "Names": "web",
    "State": {"Status": "running", "Pid": 7, "Error": None},
    "Labels": {"a": "1", "b.c": "2"},
    "Mounts": [{"Source": "/a"}, {"Source": "/b"}],
    "Empty": [],
    "Running": True,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.ID}}", "0123456789ab"),
        ("{{ .Names }}: {{.State.Status}}", "web: running"),
        ("plain", "plain"),
        ("{{json .Labels}}", '{"a":"1","b.c":"2"}'),
        ("{{.Labels | json}}", '{"a":"1","b.c":"2"}'),
        ('{{index .Labels "b.c"}}', "2"),
        ('{{index .Labels "no"}}', ""),
        ("{{(index .Mounts 1).Source}}", None),
        ("{{range .Mounts}}[{{.Source}}]{{end}}", "[/a][/b]"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b.c=2 "),
        ("{{range $i, $m := .Mounts}}{{$i}}{{$m.Source}}{{end}}", "0/a1/b"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{if eq .State.Status "running"}}up{{else}}down{{end}}', "up"),
        ("{{if .Empty}}some{{end}}", ""),
        ("{{if not .Empty}}{{len .Mounts}}{{end}}", "2"),
        ("{{upper .Names}} {{lower .Names}}", "WEB web"),
        ("{{if and .Running (eq .State.Pid 7)}}both{{end}}", "both"),
        ("a {{- .Names -}} b", "awebb"),
        ("{{.State.Error}}", "<no value>"),
        ("{{.Running}} {{.Mounts}}", "true [map[Source:/a] map[Source:/b]]"),
        ('{{join (split .Names "e") "-"}}', "w-b"),
        ("{{/* a comment */}}x", "x"),
        ("{{$.Names}}", "web"),
    ],
)
def test_a_template_shows_what_gos_would(template: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(Invalid):
            render(parse(template), DOCUMENT)
    else:
        assert render(parse(template), DOCUMENT) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nmes}}", "there is no 'Nmes'; it has ID, Names"),
        ("{{Names}}", "is neither a member (.Names)"),
        ("{{.ID", "an action has no end"),
        ("{{range .Mounts}}x", "a block has no {{end}}"),
        ("{{end}}", "closes nothing"),
        ("{{else if .ID}}", "not supported"),
        ("{{system .ID}}", "there is no function 'system'"),
        ("{{len .State.Pid}}", "len .State.Pid"),
        ("{{index .Mounts 9}}", "index .Mounts 9"),
        ("{{.ID | }}", "an action is empty"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(template: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        render(parse(template), DOCUMENT)
    assert message in str(caught.value)


@given(st.text(alphabet=st.sampled_from(list('{}. |()"$-abID:=,end range if else json')), max_size=60))
def test_no_template_raises_anything_but_invalid(template: str) -> None:
    try:
        render(parse(template), DOCUMENT)
    except Invalid:
        return


def call(*words: str) -> Call:
    verb = verbs.names()["ps"]
    return Call(verb, split(words, verb.options).values, (), "/nowhere")


ROWS = [{"ID": "aa", "Name": "one"}, {"ID": "bbbbbb", "Name": "\x1b[2Jtwo\n"}]
COLUMNS = (("THE ID", "ID"), ("NAME", "Name"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "THE ID   NAME\naa       one\nbbbbbb   \\x1b[2Jtwo\\n\n"),
        (("--format", "table"), "THE ID   NAME\naa       one\nbbbbbb   \\x1b[2Jtwo\\n\n"),
        (("-q",), "aa\nbbbbbb\n"),
        (("--format", "{{.ID}}"), "aa\nbbbbbb\n"),
        (("--format", "table {{.Name}}\\t{{.ID}}"), "NAME           THE ID\none            aa\n\\x1b[2Jtwo\\n   bbbbbb\n"),
    ],
)
def test_a_list_is_shown_as_asked_for(words: tuple[str, ...], text: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert listing(call(*words), ROWS, COLUMNS) == 0
    assert capfdbinary.readouterr().out.decode() == text, "control characters in a table are shown, not sent"


def test_json_is_one_object_a_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    listing(call("--format", "json"), ROWS, COLUMNS)
    assert [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()] == ROWS


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    ),
    st.sampled_from([0, 4]),
)
def test_json_is_what_the_package_json_writes_and_printable(value: object, indent: int) -> None:
    separators = None if indent else (",", ":")
    plain = json.dumps(value, ensure_ascii=False, indent=indent or None, separators=separators)
    shown = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in plain)
    assert json_text(value, indent=indent) == shown, "what a terminal may obey is escaped, in JSON's own way"


def test_a_command_is_quoted() -> None:
    assert quoted('sh -c "a\\b"\n') == '"sh -c \\"a\\\\b\\"\\n"'


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05.000000006Z", "2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.25+00:00"])
def test_a_recorded_time_is_read_as_any_other(text: str) -> None:
    assert moments.epoch(text) == moments.epoch(text[:19] + "Z") + float("0." + text[20:].rstrip("Z").partition("+")[0])


def test_an_empty_list_is_its_headings(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    listing(call(), [], COLUMNS)
    assert capfdbinary.readouterr().out == b"THE ID   NAME\n"


@given(st.text())
def test_what_is_printed_holds_no_control_character(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (3600 * 5, "5 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 365 * 3, "3 years"),
        (-5, "Less than a second"),
    ],
)
def test_a_length_of_time_is_said_as_docker_says_it(seconds: int, words: str) -> None:
    assert moments.span(seconds) == words


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_261_550, "4.26MB"), (123_456_789, "123MB"), (2e9, "2GB")]
)
def test_a_size_has_three_digits(count: float, text: str) -> None:
    assert moments.size(count) == text


@given(st.integers(min_value=-62_135_596_800, max_value=253_402_300_799))
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    assert moments.epoch(shown.zfill(20)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-21T01:02:03.5Z", 1_795_222_923.5),
        ("2026-11-21T01:02:03.123456789Z", 1_795_222_923.123456789),
        ("2026-11-21T03:02:03+02:00", 1_795_222_923),
        ("2026-11-20T20:02:03-05:00", 1_795_222_923),
        ("2026-11-21", 1_795_219_200),
        ("1795222923", 1_795_222_923),
    ],
)
def test_a_moment_may_be_written_in_several_ways(text: str, seconds: float) -> None:
    assert moments.moment(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1m30s", 90), ("2h", 7200), ("1d", 86400), ("500ms", 0.5), ("1.5h", 5400)])
def test_a_duration_may_be_written_in_several_ways(text: str, seconds: float) -> None:
    assert moments.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "2026-13-01", "2026-01-01T25:00:00Z", "-5m", "m"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        moments.moment(text)
