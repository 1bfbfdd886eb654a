#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: container
short_description: Have a container on a host, created, running, stopped or gone
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Creates, changes, starts, stops or removes one container. Options are the keys of a Compose service."
  - "An option that is left out has its default, and one that was taken away is taken away; O(ignore) names what is left alone."
  - "What the kernel can change on a running container is changed in place; for all else it is replaced."
requirements:
  - python >= 3.9 on the host, and root there
attributes:
  check_mode:
    support: full
    description: Says what would be done, and does nothing.
  diff_mode:
    support: full
    description: Shows what is changed of each resource.
options:
  name:
    description:
      - "The container's name."
    type: str
    required: true
  state:
    description:
      - "C(present) creates the container and leaves its running alone."
      - "C(started), C(stopped) and C(absent) need only the name."
    type: str
    choices: ["present", "started", "stopped", "absent"]
    default: "started"
  image:
    description:
      - "The image's reference."
    type: str
  pull:
    description:
      - "When to ask the registry."
    type: str
    choices: ["missing", "always", "never"]
    aliases: ["pull_policy"]
  recreate:
    description:
      - "Whether to replace the container: where a change needs it, at every run, or never (with a warning)."
    type: str
    choices: ["auto", "always", "never"]
    default: "auto"
  ignore:
    description:
      - "Compose keys whose present value is left alone."
    type: list
    elements: str
  restart:
    description:
      - "C(true) restarts the container in this run."
      - "A string is Compose's restart policy, as O(restart_policy)."
    type: raw
  restart_policy:
    description:
      - "C(no), C(always), C(unless-stopped), C(on-failure) or C(on-failure:N)."
    type: str
  force:
    description:
      - "Take the name over from another project's container."
    type: bool
  auto_remove:
    description:
      - "Remove the container when it ends."
    type: bool
  profile:
    description:
      - "C(strict) sets no_new_privs, mounts the root file system nosuid and grants fewer capabilities."
    type: str
    choices: ["default", "strict"]
  systemd:
    description:
      - "Whether it is prepared for systemd as its first process: C(auto) where its command is an init's path."
    type: str
    choices: ["auto", "always", "false"]
  command:
    description:
      - "What to run, as a list or as one string that is split as a shell would; the image's if left out."
    type: raw
  entrypoint:
    description:
      - "What runs the command; the image's if left out."
    type: raw
  environment:
    description:
      - "Variables, as a mapping or as a list of C(KEY=VALUE)."
    type: raw
    aliases: ["env"]
  env_file:
    description:
      - "Files of variables on the controller: a path, a list of paths, or a list of mappings with C(path), C(required), C(format)."
    type: raw
  working_dir:
    description:
      - "The directory that the command starts in."
    type: str
    aliases: ["workdir"]
  user:
    description:
      - "User and group, by name or number: C(USER[:GROUP])."
    type: str
  group_add:
    description:
      - "Further groups, by name or number."
    type: list
    elements: str
    aliases: ["groups"]
  init:
    description:
      - "Run a small init as first process that reaps orphans and passes signals on."
    type: bool
  tty:
    description:
      - "Give it a terminal."
    type: bool
  stdin_open:
    description:
      - "Keep its standard input open."
    type: bool
    aliases: ["interactive"]
  stop_signal:
    description:
      - "The signal that asks it to end."
    type: str
  stop_grace_period:
    description:
      - "Time between that signal and KILL, such as C(10s)."
    type: str
    aliases: ["stop_timeout"]
  platform:
    description:
      - "The platform to choose of an image's index."
    type: str
  labels:
    description:
      - "Labels, as a mapping or as a list of C(KEY=VALUE)."
    type: raw
  annotations:
    description:
      - "Annotations of the OCI configuration, as a mapping or a list."
    type: raw
  depends_on:
    description:
      - "Containers that must be there first: a list, or a mapping with conditions as in Compose."
    type: raw
  healthcheck:
    description:
      - "How to see whether it works."
    type: dict
    suboptions:
      test:
        description:
          - "A shell command, or a list that starts with C(CMD), C(CMD-SHELL) or C(NONE)."
        type: raw
      interval:
        description:
          - "Time between two checks, such as C(30s)."
        type: str
      timeout:
        description:
          - "What a check may take."
        type: str
      retries:
        description:
          - "How many checks in a row make it unhealthy."
        type: int
      start_period:
        description:
          - "Time after the start in which a failure does not count."
        type: str
      start_interval:
        description:
          - "Time between two checks in that time."
        type: str
      disable:
        description:
          - "Switch the image's own health check off."
        type: bool
  logging:
    description:
      - "Where its output goes; C(json-file), three files of 10 MB, if left out."
    type: dict
    suboptions:
      driver:
        description:
          - "The driver."
        type: str
        choices: ["json-file", "journald", "syslog", "none"]
      options:
        description:
          - "Options of the driver, such as C(max-size) and C(max-file)."
        type: dict
  network_mode:
    description:
      - "C(bridge), C(host), C(none) or C(container:NAME)."
    type: str
  networks:
    description:
      - "Networks to join: a list of names, a mapping as in Compose, or a list of mappings with C(name), C(aliases), C(ipv4_address), C(ipv6_address)."
    type: raw
  ports:
    description:
      - "Published ports, C([[IP:]HOST:]CONTAINER[/PROTOCOL]) or Compose's long form."
      - "Quote them."
    type: list
    elements: raw
    aliases: ["published_ports", "publish"]
  expose:
    description:
      - "Ports that it listens on; a note only."
    type: list
    elements: raw
    aliases: ["exposed_ports"]
  hostname:
    description:
      - "Its host name."
    type: str
  domainname:
    description:
      - "Its NIS domain name."
    type: str
  extra_hosts:
    description:
      - "Entries for its C(/etc/hosts), as a mapping or as a list of C(NAME=ADDRESS)."
    type: raw
    aliases: ["etc_hosts"]
  dns:
    description:
      - "Name servers to use instead of the host's."
    type: raw
    aliases: ["dns_servers"]
  dns_search:
    description:
      - "Domains to search."
    type: raw
    aliases: ["dns_search_domains"]
  dns_opt:
    description:
      - "Resolver options."
    type: list
    elements: str
    aliases: ["dns_opts"]
  volumes:
    description:
      - "Mounts: C(SOURCE:TARGET[:OPTIONS]) or Compose's long form."
      - "A named volume that is not there is made."
    type: list
    elements: raw
    aliases: ["mounts"]
  tmpfs:
    description:
      - "Directories in memory, C(TARGET[:OPTIONS])."
    type: raw
  read_only:
    description:
      - "Mount its root file system read-only."
    type: bool
  shm_size:
    description:
      - "The size of C(/dev/shm), such as C(64m)."
    type: str
  secrets:
    description:
      - "Files with a secret, read on the controller: mappings with C(source) (a path), C(target), C(uid), C(gid), C(mode)."
    type: list
    elements: dict
    suboptions:
      source:
        description:
          - "The file on the controller."
        type: path
        required: true
      target:
        description:
          - "The file's name or path inside; below C(/run/secrets) where it is a name."
        type: str
        required: true
      uid:
        description:
          - "Its owner."
        type: str
      gid:
        description:
          - "Its group."
        type: str
      mode:
        description:
          - "Its mode, C('0400')."
        type: raw
  configs:
    description:
      - "The same for files that are no secret."
    type: list
    elements: dict
    suboptions:
      source:
        description:
          - "The file on the controller."
        type: path
        required: true
      target:
        description:
          - "The file's path inside."
        type: str
        required: true
      uid:
        description:
          - "Its owner."
        type: str
      gid:
        description:
          - "Its group."
        type: str
      mode:
        description:
          - "Its mode, C('0444')."
        type: raw
  mem_limit:
    description:
      - "Memory, such as C(512m)."
    type: str
    aliases: ["memory"]
  mem_reservation:
    description:
      - "Memory that is left to it under pressure."
    type: str
    aliases: ["memory_reservation"]
  memswap_limit:
    description:
      - "Memory and swap together; C(-1) is without limit."
    type: str
    aliases: ["memory_swap"]
  cpus:
    description:
      - "Processors, such as C(1.5)."
    type: str
  cpu_shares:
    description:
      - "Its weight beside others; 1024 is the usual."
    type: int
  cpu_quota:
    description:
      - "Processor time in a period, in microseconds."
    type: raw
  cpu_period:
    description:
      - "That period, in microseconds."
    type: raw
  cpuset:
    description:
      - "Processors that it may use, such as C(0-3)."
    type: str
    aliases: ["cpuset_cpus"]
  pids_limit:
    description:
      - "How many processes it may have."
    type: int
  ulimits:
    description:
      - "Resource limits: a mapping as in Compose, or a list of C(NAME:SOFT:HARD)."
    type: raw
  oom_score_adj:
    description:
      - "How readily the kernel kills it when memory runs out."
    type: int
  deploy:
    description:
      - "Compose's C(resources.limits) and C(resources.reservations)."
    type: dict
  privileged:
    description:
      - "Give it every capability and device."
    type: bool
  cap_add:
    description:
      - "Capabilities to add."
    type: list
    elements: str
    aliases: ["capabilities"]
  cap_drop:
    description:
      - "Capabilities to take away."
    type: list
    elements: str
  security_opt:
    description:
      - "C(no-new-privileges), C(seccomp=unconfined)."
    type: list
    elements: str
    aliases: ["security_opts"]
  devices:
    description:
      - "Devices, C(HOST[:INSIDE[:PERMISSIONS]]), or their CDI names, C(VENDOR/CLASS=NAME)."
    type: list
    elements: str
  device_cgroup_rules:
    description:
      - "Rules of the device controller."
    type: list
    elements: str
  sysctls:
    description:
      - "Kernel parameters of its namespaces."
    type: raw
  pid:
    description:
      - "C(host) or C(container:NAME) share that process namespace."
    type: str
    aliases: ["pid_mode"]
  ipc:
    description:
      - "The same for IPC."
    type: str
    aliases: ["ipc_mode"]
  uts:
    description:
      - "C(host) or C(container:NAME) share that host name."
    type: str
    aliases: ["uts_mode"]
  cgroup:
    description:
      - "C(private) or C(host)."
    type: str
    choices: ["private", "host"]
  userns_mode:
    description:
      - "C(private) gives it user ids of its own: its root is nobody on the host."
    type: str
    choices: ["host", "private"]
    aliases: ["userns"]
  runtime:
    description:
      - "An OCI runtime of the host's that runs it instead of our own: C(runc), C(crun), or an absolute path."
    type: str
  wait:
    description:
      - "Wait until what was started is running, and healthy where it has a health check."
    type: bool
  wait_timeout:
    description:
      - "How long to wait, as a number of seconds or a duration such as C(2m)."
    type: str
    default: "2m"
  registry_auth:
    description:
      - "Credentials for a registry."
      - "They are used for this call and stored nowhere."
    type: dict
    suboptions:
      registry:
        description:
          - "The registry that they are for; the image's own if left out."
        type: str
      username:
        description:
          - "The user."
        type: str
        required: true
      password:
        description:
          - "The password or token."
        type: str
        required: true
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: A web server runs
  bayplan.containers.container:
    name: web
    image: docker.io/library/nginx:1.27
    ports: ["8080:80"]
    restart: unless-stopped
    memory: 256m

- name: It is stopped; only its name is needed
  bayplan.containers.container:
    name: web
    state: stopped
"""

RETURN = r"""
steps:
  description: What was changed, or would be in check mode, in order.
  type: list
  elements: dict
  returned: success
  contains:
    action:
      description: What is done, such as C(create), C(update), C(replace).
      type: str
    kind:
      description: What it is done to, such as C(container).
      type: str
    name:
      description: Its name.
      type: str
    why:
      description: The differences that it was done for.
      type: list
      elements: str
container:
  description: "What is there afterwards."
  type: raw
  returned: success, unless it is absent
"""
