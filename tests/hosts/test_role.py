"""The role that prepares a host, and takes everything back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab, Run
from disposable import Host
from test_ansible import web

ROLE = "bayplan.containers.host"
PLACES = "/etc/modules-load.d /etc/sysctl.d /etc/init.d /etc/systemd/system /usr/local/bin /var/lib"
FOOTPRINT = f"find {PLACES} -name '*bayplan*'"


def role(lab: Lab, host: Host, *, check: bool = False, fail: bool = False, **variables: Any) -> Run:
    return lab.play(host, {"name": "role", "ansible.builtin.include_role": {"name": ROLE}, "vars": variables}, check=check, fail=fail)


def test_it_prepares_a_host_and_a_second_run_changes_nothing(lab: Lab, host: Host) -> None:
    host.ssh("mkdir -p /etc/modules-load.d /etc/sysctl.d /etc/init.d /etc/systemd/system")
    assert role(lab, host, check=True).changed, "a check says that there is something to do"
    assert role(lab, host).changed
    assert host.ssh("test -x /usr/local/bin/bayplan && test -x /etc/init.d/bayplan && cat /etc/sysctl.d/60-bayplan.conf").stdout, (
        "it is prepared"
    )
    assert not role(lab, host).changed, "a second run changes nothing"


def test_the_boot_hook_stops_and_starts_containers_with_a_restart_policy(lab: Lab, host: Host) -> None:
    lab.play(host, web("comes-back", restart="always"), web("stays-away", restart="no"))
    host.ssh("/etc/init.d/bayplan stop")
    assert host.ssh("bayplan ps -q").stdout == "", "a shutdown stops all of them"
    host.ssh("/etc/init.d/bayplan start")
    running = host.ssh("bayplan ps").stdout
    assert "comes-back" in running and "stays-away" not in running, "a boot starts those whose policy says so"


POLICY = {"rules": {"*": {"push": "deny"}, "docker.io/*": {"pull": "deny"}}}


def test_it_writes_the_policy_and_a_second_run_changes_nothing(lab: Lab, host: Host) -> None:
    assert role(lab, host, check=True, host_policy=POLICY).changed
    assert host.ssh("ls /etc/bayplan 2>&1; true").stdout.find("policy.json") < 0, "a check writes nothing"
    assert role(lab, host, host_policy=POLICY).changed
    assert json.loads(host.ssh("cat /etc/bayplan/policy.json").stdout) == POLICY
    assert not role(lab, host, host_policy=POLICY).changed, "a second run changes nothing"


@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_a_module_is_refused_what_the_policy_denies(lab: Lab, host: Host, check: bool) -> None:
    host.ssh(f"mkdir -p /etc/bayplan && echo '{json.dumps(POLICY)}' > /etc/bayplan/policy.json")
    run = lab.play(host, {"name": "pull", "bayplan.containers.image": {"name": "busybox:1"}}, check=check, fail=True)
    assert "denies pulls of docker.io/*" in run.last["msg"], run.last


def test_a_policy_whose_key_is_not_there_is_not_put_in_force(lab: Lab, host: Host) -> None:
    wrong = {"rules": {"*": {"signed_by": {"keys": ["/etc/bayplan/nothing.pub"]}}}}
    run = role(lab, host, host_policy=wrong, fail=True)
    assert "nothing.pub" in json.dumps(run.last), run.last
    assert json.loads(host.ssh("cat /etc/bayplan/policy.json").stdout) == POLICY, "the one that was there still is"


def test_it_does_not_go_while_there_are_containers_unless_it_is_told_to(lab: Lab, host: Host) -> None:
    run = role(lab, host, host_state="absent", fail=True)
    assert "comes-back" in run.last["msg"] and "host_purge" in run.last["msg"], "the message says what is there and what to do"
    assert "comes-back" in host.ssh("bayplan ps").stdout, "and nothing was lost"


def test_it_takes_everything_back(lab: Lab, host: Host) -> None:
    role(lab, host, host_state="absent", host_purge=True)
    assert host.ssh(FOOTPRINT).stdout == "", "no file of it is left"
    assert host.ssh("ls -d /etc/bayplan 2>/dev/null; true").stdout == "", "no policy"
    assert "bayplan" not in host.ssh("nft list tables").stdout, "no table"
    assert host.ssh("ip -o link | grep -v -e ' lo:' -e eth0; true").stdout == "", "no interface"
    assert not role(lab, host, host_state="absent").changed, "a second run changes nothing"


def test_units_are_ones_that_systemd_accepts(lab: Lab, tmp_path: Path) -> None:
    import shutil
    import subprocess

    import jinja2

    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    source = Path(__file__).resolve().parents[2] / "roles" / "host" / "templates" / "bayplan.service.j2"
    text = jinja2.Template(source.read_text()).render(host_root="/var/lib/bayplan").replace("/usr/local/bin/bayplan", "/bin/true")
    (tmp_path / "bayplan.service").write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / "bayplan.service")], capture_output=True, text=True)
    assert "bayplan.service" not in done.stderr, done.stderr
