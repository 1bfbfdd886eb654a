"""Names and values with other programs' syntax, wherever they are written: refused, or quoted at the one place that writes them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from attack_lab import IMAGE, NET, Host

EVIL = [
    "a\nb",
    "a;b",
    "a b",
    "a'b",
    'a"b',
    "$(id)",
    "`id`",
    "{{.ID}}",
    "a/b",
    "..",
    ".",
    "-rf",
    "--privileged",
    "a\0b".replace("\0", "\x01"),
    "a%n",
    "ä",
    "",
    "x" * 300,
]
HARMLESS_VALUES = [
    "a\nb",
    "';reboot;'",
    '"; flush ruleset; "',
    "$(id)",
    "`id`",
    "{{.ID}}",
    "%n%s",
    "\x1b[2J",
    "\r",
    "a,b=c",
    "\u202e",
    "=",
    "\\",
]


@pytest.mark.parametrize("name", EVIL)
def test_a_name_with_syntax_in_it_is_refused_for_every_kind(host: Host, name: str) -> None:
    for words in (
        ("create", *NET, "--name", name, IMAGE, "sleep"),
        ("network", "create", "--", name),
        ("volume", "create", "--", name),
        ("tag", IMAGE, name) if name not in ("a/b",) else ("volume", "create", "--", name),
        ("create", "--network", name, IMAGE, "sleep"),
        ("create", *NET, "-v", f"{name}:/x", IMAGE, "sleep")
        if name and not name.startswith((".", "/"))
        else ("volume", "create", "--", name),
        ("create", *NET, "--hostname", name or "\n", IMAGE, "sleep") if name not in ("..", ".") else ("volume", "create", "--", name),
    ):
        done = host.ran(*words)
        plain = name == "" and (words[:2] == ("volume", "create") or "--name" in words)  # without a name one is made up
        assert done.returncode or plain, f"{words}: {done}"
        assert b"\n" not in done.stderr.rstrip(b"\n") and (plain or done.stderr), f"one line says so: {done}"
    assert host.command("ps", "-aq") == "" or not name, "nothing is recorded"


@pytest.mark.parametrize("value", HARMLESS_VALUES)
def test_a_value_with_syntax_in_it_is_literal_everywhere(host: Host, value: str) -> None:
    host.command("create", *NET, "--name", "named", "--label", f"l={value}", "-e", f"E={value}", "--annotation", f"a={value}", IMAGE, "env")
    document = json.loads(host.command("inspect", "named"))[0]
    assert document["Config"]["Labels"] == {"l": value} and f"E={value}" in document["Config"]["Env"], f"{document['Config']}"
    said = host.ran("start", "-a", "named").stdout
    assert f"E={value}\n".encode() in said, f"{said!r}"
    for words in (("ps", "-a"), ("ps", "-a", "--format", "json"), ("inspect", "named")):
        assert host.command(*words).replace("\n", "").isprintable(), f"{words}: a table or a document stays one"


def test_labels_and_tags_reach_the_journal_as_one_field_each(host: Host, tmp_path: Path) -> None:
    """systemd's native protocol ends a field with a newline: a label with one would claim another field."""
    from bayplan.supervise.shipping import journal

    class Config:
        id, name, log_tag = "ab" * 32, "x\nPRIORITY=0", "t\n_UID=0"
        log_labels = (("LABEL", "v\nMESSAGE=forged"), ("_TRUSTED", "1"), ("BAD NAME", "1"), ("BAD\nNAME", "1"))

    message = journal(Config())(1, b"said\n")  # type: ignore[arg-type]
    fields = [line.partition(b"=")[0] for line in message.splitlines()]
    assert fields.count(b"MESSAGE") == 1 and fields.count(b"PRIORITY") == 1, f"{message!r}"
    assert not any(field.startswith(b"_") or b" " in field for field in fields), f"{message!r}"


def test_output_is_one_message_a_line_for_a_log_server(host: Host) -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        where = f"syslog-address=udp://127.0.0.1:{receiver.getsockname()[1]}"
        forged = "printf 'one\\r<0>forged\\033[2J\\n<0>Jan  1 00:00:00 host root: two\\n'"
        host.command(
            "run",
            "--rm",
            *NET,
            "--log-driver",
            "syslog",
            "--log-opt",
            where,
            "--log-opt",
            "tag=<0>x",
            IMAGE,
            "sh",
            "-c",
            f"{forged}; sleep 0.5",
        )
        messages = [receiver.recv(4096) for _ in range(2)]
    finally:
        receiver.close()
    for message in messages:
        assert message.startswith(b"<") and b"\n" not in message, f"one line, with our own head: {message!r}"
        assert not message.startswith(b"<0>"), f"the priority is not the container's to choose: {message!r}"


@pytest.mark.parametrize("words", [
    ("--subnet", "10.9.0.0/24; flush ruleset"), ("--subnet", "10.9.0.0/24\n"), ("--gateway", "10.9.0.1\n"), ("--ip-range", "x"),
    ("--opt", "com.docker.network.bridge.name=x;y"), ("--opt", "com.docker.network.bridge.name=../x"), ("--label", "no\nname"),
    ("--driver", "evil;x"), ("--subnet", "0.0.0.0/0"), ("--subnet", "127.0.0.0/8"), ("--subnet", "::/0"), ("--subnet", "224.0.0.0/4"),
])  # fmt: skip
def test_a_network_s_options_reach_no_rule_raw(host: Host, words: tuple[str, ...]) -> None:
    done = host.ran("network", "create", *words, "crafty")
    try:
        assert done.returncode or words[0] == "--label", f"{done}"
    finally:
        host.ran("network", "rm", "crafty")


def test_names_numbers_and_prefixes_of_ids_are_told_apart(host: Host) -> None:
    """A name that is the beginning of another's id must not take its place, nor an ambiguous beginning one of the two."""
    host.command("create", *NET, "--name", "victim", IMAGE, "sleep")
    identity = host.command("ps", "-aq", "--no-trunc").strip()
    for name in (identity[:12], identity[:4], "1234", "00"):
        host.ran("create", *NET, "--name", name, IMAGE, "sleep")
    names = host.command("ps", "-a", "--format", "{{.Names}}").split()
    for name in names:
        assert host.command("inspect", "--format", "{{.Name}}", name).strip("/\n") == name, "a name means the one that has it"
    assert host.command("inspect", "--format", "{{.Name}}", identity).strip("/\n") == "victim", "a whole id means the one that has it"
    for odd in ("", ".", "..", "/", "-", "--", "*", "%", identity + "0", identity.upper(), "victim\n", " victim", "v", "vic"):
        done = host.ran("rm", "-f", "--", odd)
        assert "victim" in host.command("ps", "-a", "--format", "{{.Names}}").split(), f"{odd!r} is not it: {done}"


def test_what_follows_the_image_is_the_command_and_never_an_option(host: Host) -> None:
    said = host.command("run", "--rm", *NET, IMAGE, "echo", "--privileged", "--name=x", "-v", "/:/host")
    assert said == "--privileged --name=x -v /:/host\n"
    assert host.ran("exec", "--", "--help").returncode != 0, "a container's name is no option after --"


@pytest.mark.parametrize("option", [
    ("--add-host", "x:1.2.3.4\n6.6.6.6 bank"), ("--dns", "1.1.1.1\noptions x"), ("--dns-search", "x y\nnameserver 6.6.6.6"),
    ("--hostname", "x\n6.6.6.6"),
    ("--domainname", "x\n6.6.6.6 y"), ("--network-alias", "x y"), ("--link", "x\ny"), ("--ip", "10.0.0.1\n"), ("--env-file", "/nothing\n"),
])  # fmt: skip
def test_no_line_can_be_added_to_the_hosts_or_resolver_file(host: Host, option: tuple[str, str]) -> None:
    done = host.ran("create", "--name", "liner", *option, IMAGE, "sleep")
    assert done.returncode, f"{done}"
    assert host.command("ps", "-aq") == ""


COMPOSE = [
    {"services": {"a": {"image": IMAGE, "volumes": ["../../../../../etc:/x"]}}},
    {"services": {"a": {"image": IMAGE, "env_file": ["../../../../etc/shadow"]}}},
    {"services": {"a": {"image": IMAGE, "configs": ["c"]}}, "configs": {"c": {"file": "/etc/shadow"}}},
    {"services": {"a": {"image": IMAGE, "secrets": ["c"]}}, "secrets": {"c": {"file": "../../../../../../etc/shadow"}}},
    {"include": ["oci://example.com/evil:1"]},
    {"include": ["https://example.com/evil.git"]},
    {"include": [{"path": "git@example.com:evil.git"}]},
    {"services": {"a": {"extends": {"file": "oci://example.com/x", "service": "y"}}}},
    {"services": {"a": {"image": IMAGE, "build": "https://example.com/x.git"}}},
]


@pytest.mark.parametrize("document", COMPOSE, ids=[json.dumps(each)[:60] for each in COMPOSE])
def test_a_compose_file_writes_nothing_outside_and_fetches_nothing(host: Host, tmp_path: Path, document: dict[str, object]) -> None:
    """CVE-2025-62725: an artifact's annotations named the files that it was written to."""
    (tmp_path / "compose.yaml").write_text(json.dumps(document))
    before = sorted(os.listdir("/etc")), sorted(os.listdir(tmp_path)), os.stat("/etc").st_mtime_ns
    done = host.ran("plan", str(tmp_path / "compose.yaml"))
    assert (sorted(os.listdir("/etc")), sorted(os.listdir(tmp_path)), os.stat("/etc").st_mtime_ns) == before, f"{done}"
    if "include" in document or "extends" in json.dumps(document):
        assert done.returncode, f"what is elsewhere is refused: {done}"
