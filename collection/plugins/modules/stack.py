#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: stack
short_description: Converge a host to a Compose document
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Makes the images, networks, volumes and containers of a Compose document so, in the order of their dependencies, in one call."
  - "Files that the document names (C(env_file), C(secrets), C(configs)) are read on the controller and carried to the host."
  - "An unknown key is an error."
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
  definition:
    description:
      - "A Compose document, written in the playbook."
      - "C(ports) must be quoted there: YAML 1.1 reads C(22:22) as a number."
    type: dict
  files:
    description:
      - "Compose files on the controller, merged in this order."
    type: list
    elements: path
  project_name:
    description:
      - "The project's name; the document's C(name) if left out, or the first file's directory."
    type: str
  project_directory:
    description:
      - "A directory on the host that relative bind mounts are taken from."
      - "Without it they are an error."
    type: str
  profiles:
    description:
      - "Profiles to switch on."
    type: list
    elements: str
  environment:
    description:
      - "Variables for C(${VAR}), before the controller's environment and C(.env)."
    type: dict
  state:
    description:
      - "Whether the project exists."
      - "Its volumes stay unless O(remove_volumes)."
    type: str
    choices: ["present", "absent"]
    default: "present"
  remove_volumes:
    description:
      - "With O(state=absent), remove the project's volumes with their data."
    type: bool
  remove_orphans:
    description:
      - "Remove containers and networks of the project that the document does not name."
    type: bool
    default: true
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
- name: The host runs what the file says
  bayplan.containers.stack:
    files: [compose.yaml]
    project_name: shop

- name: The same, written here
  bayplan.containers.stack:
    project_name: shop
    definition:
      services:
        web:
          image: docker.io/library/nginx:1.27
          ports: ["8080:80"]
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
stack:
  description: "What is there afterwards."
  type: raw
  returned: success, unless it is absent
"""
