"""Containers converge for real: images, networks, volumes, processes, and the second time nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_lab import RUNTIME, Lab, service

from bayplan.engine import containers
from bayplan.store import locks, status


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path)
    yield found
    found.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def steps(response: object) -> list[tuple[str, str, str]]:
    return [(step.action, step.kind, step.name) for step in response.steps]  # type: ignore[attr-defined]


def test_a_project_comes_up_and_the_second_converge_changes_nothing(lab: Lab) -> None:
    want = {
        "name": "web",
        "services": {
            "front": service("sh", "-c", "echo ready; sleep 1000", depends_on=["back"], volumes=["data:/data"]),
            "back": service(),
        },
        "volumes": {"data": {}},
    }
    first = lab.done(want)
    assert ("create", "network", "web_default") in steps(first), "the project's network is made"
    assert ("start", "container", "web-front-1") in steps(first), "the containers are started"
    assert lab.run("web-front-1").status == "running", "what is declared runs"
    assert lab.done(want).steps == (), "what was declared is there, so nothing changes"


def test_a_published_port_answers_on_the_host_and_names_between_containers(lab: Lab) -> None:
    port = free_port()
    page = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
    want = {
        "name": "site",
        "services": {"web": service("sh", "-c", page, ports=[f"{port}:80"]), "client": service()},
    }
    lab.done(want)
    for host in ("127.0.0.1", "[::1]"):
        lab.wait("the page is served", lambda host=host: fetch(f"http://{host}:{port}/") == "hello\n")
    assert lab.inside("site-client-1", "wget", "-q", "-O", "-", "http://web/") == "hello\n", "a service is found by its name"


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode())
    except OSError as error:
        return f"no answer: {error}"


def test_a_name_is_answered_as_long_as_its_container_lives(lab: Lab) -> None:
    """Also where nobody was left to take it out, and where the file of names is lost or that of another boot."""
    networked = {"networks": {"default": None}}
    lab.done({"name": "site", "services": {name: service(**networked) for name in ("web", "db", "client")}, "networks": {"default": {}}})
    run = status.read_started(str(lab.directory("site-web-1")))
    assert run is not None
    lab.inside("site-client-1", "nslookup", "web.")
    os.kill(run.monitor, signal.SIGKILL)
    os.kill(run.pid, signal.SIGKILL)
    lab.wait("its process has ended", lambda: not status.process_alive(run, status.boot_id()))
    lab.command("exec", "site-client-1", "nslookup", "web.", status=1)
    (names,) = Path(lab.path).glob("networks/*/names")
    for lost in ("", names.read_text().replace(status.boot_id(), "0" * 36)):
        names.write_text(lost)
        lab.command("start", "site-web-1")
        for name in ("web.", "db.", "site-client-1."):
            lab.inside("site-client-1", "nslookup", name)
        lab.command("stop", "site-web-1")
        lab.command("exec", "site-client-1", "nslookup", "web.", status=1)


def test_a_removed_option_is_removed_and_limits_change_under_the_same_process(lab: Lab) -> None:
    want = {"services": {"one": service(mem_limit="64m", pids_limit=50), "two": service()}}
    lab.done(want)
    before = lab.run("one").pid, lab.run("two").pid
    want["services"]["one"].pop("pids_limit")
    want["services"]["one"]["mem_limit"] = "96m"
    want["services"]["one"]["labels"] = {"tier": "front"}
    checked = lab.converge(want, check=True)
    changed = lab.done(want)
    assert steps(checked) == steps(changed) == [("update", "container", "one")], "a check foretells what a run does"
    assert (lab.run("one").pid, lab.run("two").pid) == before, "changing limits and labels leaves every process alone"
    limits = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true"
    assert "100663296" in lab.inside("one", "sh", "-c", limits), "the kernel has the new limit"
    assert lab.done(want).steps == ()


def test_a_changed_command_replaces_only_that_container(lab: Lab) -> None:
    want = {"services": {"one": service(), "two": service()}}
    lab.done(want)
    one, two = lab.run("one").pid, lab.run("two").pid
    want["services"]["one"]["command"] = ["sleep", "2000"]
    assert steps(lab.done(want)) == [("replace", "container", "one")]
    assert lab.run("one").pid != one, "another command is another process"
    assert lab.run("two").pid == two, "the other container is left alone"
    assert lab.done(want).steps == ()


def test_a_replacement_that_does_not_start_leaves_the_old_container_running(lab: Lab) -> None:
    port = free_port()
    want = {"services": {"one": service(ports=[f"{port}:80"], volumes=["keep:/keep"])}}
    lab.done(want)
    want["services"]["one"]["command"] = ["no-such-program"]
    response = lab.converge(want)
    assert response.error is not None and "no-such-program" in response.error[1], response.error
    assert lab.run("one").status == "running", "the old one runs again"
    assert lab.record("one").spec.command == ("sleep", "1000"), "and is recorded as it runs"
    want["services"]["one"]["command"] = ["sh", "-c", "echo broken configuration; exit 3"]
    response = lab.converge(want)
    assert response.error is not None and "broken configuration" in response.error[1], "its last output is in the error"
    assert lab.run("one").status == "running"


def test_a_new_container_takes_the_ports_over_before_the_old_one_goes(lab: Lab) -> None:
    port = free_port()

    def want(word: str) -> dict[str, object]:
        page = f"mkdir -p /www; echo {word} > /www/index.html; exec httpd -f -p 80 -h /www"
        check = {"test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], "interval": "100ms", "start_interval": "50ms"}
        return {"services": {"web": service("sh", "-c", page, ports=[f"{port}:80"], healthcheck=check)}}

    lab.done(want("first"))
    lab.wait("the page is served", lambda: fetch(f"http://127.0.0.1:{port}/") == "first\n")
    answers: list[str] = []
    stopping = threading.Event()
    asking = threading.Thread(target=lambda: ask(port, answers, stopping))
    asking.start()
    try:
        replaced = subprocess.run(
            [sys.executable, "-c", CONVERGE, lab.path, json.dumps(want("second"))], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(RUNTIME)},
        )  # fmt: skip
    finally:
        stopping.set()
        asking.join()
    assert replaced.stdout.strip() == "replace None", replaced
    assert answers[0] == "first\n" and fetch(f"http://127.0.0.1:{port}/") == "second\n"
    lost = [answer for answer in answers if answer not in ("first\n", "second\n")]
    assert len(lost) <= 1, f"somebody answers all the time, but for a connection in the old one's last moment: {lost}"


CONVERGE = """
import json, sys
from bayplan import dispatch
from bayplan.model.result import Request
response = dispatch.handle(Request("converge", json.loads(sys.argv[2]), False, False, sys.argv[1]))
print(*(step.action for step in response.steps), response.error)
"""


def ask(port: int, answers: list[str], stopping: threading.Event) -> None:
    while not stopping.is_set():
        answers.append(fetch(f"http://127.0.0.1:{port}/"))


def test_a_volume_is_filled_from_the_image_once_and_outlives_its_containers(lab: Lab) -> None:
    want = {"services": {"one": service(volumes=["seeded:/seed"])}}
    lab.done(want)
    assert lab.inside("one", "cat", "/seed/first") == "from the image\n"
    lab.inside("one", "sh", "-c", "echo mine > /seed/first; touch /seed/second")
    lab.done({"services": {"one": {"x-bayplan": {"state": "absent"}}}})
    lab.done(want)
    assert lab.inside("one", "cat", "/seed/first") == "mine\n", "a volume's data stay, and are not filled over"
    lab.done({"name": "p", "services": {"a": service(volumes=["v:/v"])}, "volumes": {"v": {}}})
    lab.done({"name": "p", "services": {}, "x-bayplan": {"state": "absent"}})
    assert "p_v" in lab.command("volume", "ls"), "a project's end keeps its volumes"


def test_the_restart_policy_acts_and_a_users_stop_wins(lab: Lab) -> None:
    lab.done({"services": {"one": service(restart="always")}})
    first = lab.run("one").pid
    os.kill(first, signal.SIGKILL)
    lab.wait("it runs again", lambda: lab.run("one").pid not in (0, first))
    assert lab.run("one").restarts == 1
    lab.command("stop", "one")
    time.sleep(0.5)
    assert lab.run("one").status == "exited", "what a user stops stays stopped"


def test_an_on_failure_policy_stops_after_its_attempts(lab: Lab) -> None:
    lab.done({"services": {"one": service("sh", "-c", "exit 7", restart="on-failure:2")}})
    lab.wait("it has given up", lambda: lab.run("one").status == "exited")
    run = lab.run("one")
    assert (run.exit_code, run.restarts) == (7, 2), "two further attempts, then it stays down with its own exit code"


def test_health_is_checked_and_a_dependent_waits_for_it(lab: Lab) -> None:
    check = {"test": ["CMD", "cat", "/tmp/well"], "interval": "100ms", "retries": 2, "start_period": "5s", "start_interval": "100ms"}
    want = {
        "services": {
            "db": service("sh", "-c", "sleep 0.5; touch /tmp/well; sleep 1000", healthcheck=check),
            "app": service(depends_on={"db": {"condition": "service_healthy"}}),
        }
    }
    lab.done(want)
    assert lab.run("db").health == "healthy", "the dependent was started only when the database was well"
    lab.inside("db", "sh", "-c", "busybox rm /tmp/well")
    lab.wait("it is unhealthy", lambda: lab.run("db").health == "unhealthy")


def test_drift_is_found_reported_exactly_and_mended(lab: Lab) -> None:
    from bayplan.kernel import firewall

    port = free_port()
    want = {"services": {"one": service(ports=[f"{port}:80"]), "two": service()}}
    lab.done(want)
    os.kill(lab.run("two").pid, signal.SIGKILL)
    lab.wait("its end is known", lambda: lab.run("two").status == "exited")
    firewall.remove(lab.state().id)
    found = lab.done(want)
    assert ("start", "container", "two") in steps(found), "the killed container is started"
    assert {kind for _, kind, _ in steps(found)} == {"container", "firewall"}, "and the flushed table repaired, nothing else"
    assert lab.done(want).steps == ()


def test_a_taken_port_is_a_clear_error_and_nothing_is_left(lab: Lab) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        port = holder.getsockname()[1]
        response = lab.converge({"services": {"one": service(ports=[f"{port}:80"])}})
    assert response.error is not None and response.error[0] == "conflict" and str(port) in response.error[1], response.error
    assert lab.command("ps", "-aq") == "", "the container that could not start is not left behind"


def test_a_start_after_a_flush_of_our_table_brings_the_rules_back(lab: Lab) -> None:
    from bayplan.kernel import firewall

    port = free_port()
    page = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
    lab.done({"services": {"one": service("sh", "-c", page, ports=[f"{port}:80"])}})
    firewall.remove(lab.state().id)
    lab.command("run", "-d", "--name", "two", "lab:1", "sleep", "1000")
    assert firewall.observe(lab.state().id) is not None, "no container runs without its network's rules"
    lab.wait("the page is served", lambda: fetch(f"http://127.0.0.1:{port}/") == "hello\n")


def test_a_check_on_an_absent_state_creates_nothing(tmp_path: Path) -> None:
    from bayplan import dispatch
    from bayplan.model.result import Request

    root = tmp_path / "nothing"
    want = {"name": "web", "services": {"a": {"image": "lab:1", "command": "true"}}, "networks": {"n": {}}}
    response = dispatch.handle(Request("converge", want, check=True, root=str(root)))
    assert response.error is None and response.changed, response.error
    assert not root.exists(), "looking creates nothing"


def test_ports_and_networks_change_in_place(lab: Lab) -> None:
    first, second = free_port(), free_port()
    page = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
    want = {"services": {"web": service("sh", "-c", page, ports=[f"{first}:80"])}, "networks": {"extra": {}}}
    lab.done(want)
    pid = lab.run("web").pid
    lab.wait("the page is served", lambda: fetch(f"http://127.0.0.1:{first}/") == "hello\n")
    want["services"]["web"]["ports"] = [f"{second}:80"]
    want["services"]["web"]["networks"] = {"bridge": {}, "extra": {"aliases": ["www"]}}
    lab.done(want)
    assert lab.run("web").pid == pid, "the process was not touched"
    assert fetch(f"http://127.0.0.1:{second}/") == "hello\n", "the new port leads to it"
    assert fetch(f"http://127.0.0.1:{first}/") != "hello\n", "the old one no longer"
    assert "eth1" in lab.inside("web", "ip", "addr"), "it has joined the network"
    assert lab.done(want).steps == ()


def test_secrets_are_files_inside_and_their_change_replaces(lab: Lab) -> None:
    from base64 import b64encode

    def want(content: bytes) -> dict[str, object]:
        return {
            "name": "s",
            "services": {"one": service(secrets=["key"])},
            "secrets": {"key": {"file": "./key"}},
            "x-bayplan": {"files": {"./key": b64encode(content).decode()}},
        }

    lab.done(want(b"first"))
    assert lab.inside("s-one-1", "cat", "/run/secrets/key") == "first"
    changed = lab.done(want(b"second"))
    assert [(step.action, step.name) for step in changed.steps] == [("replace", "s-one-1")]
    assert lab.inside("s-one-1", "cat", "/run/secrets/key") == "second"
    assert "second" not in lab.command("inspect", "s-one-1"), "no secret is shown"


def killed(lab: Lab, want: dict[str, object], place: str) -> None:
    """A converge that dies when it gets to the function `place`."""
    ran = subprocess.run(
        [sys.executable, "-c", DYING, lab.path, json.dumps(want), place], env={**os.environ, "PYTHONPATH": str(RUNTIME)}
    )
    assert ran.returncode == -signal.SIGKILL, "the converge was killed where it was to be"


DYING = """
import importlib, json, os, sys
from bayplan import dispatch
from bayplan.model.result import Request
module, _, name = sys.argv[3].rpartition(".")
setattr(importlib.import_module(module), name, lambda *_, **__: os.kill(os.getpid(), 9))
dispatch.handle(Request("converge", json.loads(sys.argv[2]), False, False, sys.argv[1]))
"""


def test_a_replacement_killed_before_the_ports_are_switched_is_made_again(lab: Lab) -> None:
    port = free_port()
    page = "mkdir -p /www; echo $0 > /www/index.html; exec httpd -f -p 80 -h /www"
    want = {"services": {"web": service("sh", "-c", page, "first", ports=[f"{port}:80"])}}
    lab.done(want)
    want["services"]["web"]["command"][-1] = "second"
    killed(lab, want, "bayplan.engine.adjust.take_ports")
    assert fetch(f"http://127.0.0.1:{port}/") == "first\n", "the old container still has the port"
    lab.done(want)
    lab.wait("the new container has the port", lambda: fetch(f"http://127.0.0.1:{port}/") == "second\n")
    assert len(containers.all_records(lab.state())) == 1, "and nothing of the first attempt is left"
    assert lab.done(want).steps == ()


def test_a_network_joined_by_a_converge_that_was_killed_is_joined_once(lab: Lab) -> None:
    want = {"services": {"web": service()}, "networks": {"extra": {}}}
    lab.done(want)
    want["services"]["web"]["networks"] = {"bridge": {}, "extra": {}}
    killed(lab, want, "bayplan.engine.containers.update")
    lab.done(want)
    assert "eth1" in lab.inside("web", "ip", "addr"), "it is on the network"
    assert lab.done(want).steps == ()


def test_a_callers_umask_does_not_reach_into_containers(lab: Lab) -> None:
    before = os.umask(0o077)
    try:
        look = "ls -ld / /data > /dev/null && cat /etc/hosts > /dev/null && ls /data && echo seen"
        one = service("sh", "-c", f"{look}; sleep 1000", user="app", volumes=["data:/data"])
        lab.done({"services": {"one": one}, "volumes": {"data": {}}})
    finally:
        os.umask(before)
    lab.wait("a user that is not root sees the root directory and the volume", lambda: lab.output("one") == "seen\n")


def test_a_container_whose_monitor_cannot_be_set_up_does_not_run(lab: Lab) -> None:
    nowhere = ("--log-driver", "syslog", "--log-opt", "syslog-address=udp://nowhere.invalid:514")
    error = lab.command("run", "-d", "--name", "mute", *nowhere, "lab:1", "sleep", "1000", status=125)
    assert "nowhere.invalid" in error, "the error names the log server"
    assert lab.run("mute").pid == 0, "nothing runs that nobody watches"


def test_a_restart_waits_for_who_looks_for_remains(lab: Lab) -> None:
    lab.done({"services": {"one": service("sh", "-c", "sleep 0.3; exit 1", restart="always")}})
    directory = str(lab.directory("one"))
    deadline = time.monotonic() + 20
    lock = -1
    while lock < 0 and time.monotonic() < deadline:
        lock = locks.try_container(directory)
    assert lock >= 0, "the lock is free for a moment between two lives"
    time.sleep(0.3)
    os.close(lock)
    lab.wait("it runs again", lambda: lab.run("one").pid != 0)
