#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_login
short_description: Keep a host logged in to a registry, or not
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Tries a login at the registry, and keeps it on the host for pulls, pushes and copies; or forgets it."
  - "What is stored already is left alone, and the registry is not asked then."
  - "It is stored where Docker stores it: by a credential helper that the file names, else in the file, where base64 hides nothing."
  - "A check does not find out whether a new password is right."
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
  registry:
    description:
      - "The registry, C(HOST[:PORT]); Docker's own if left out."
    type: str
    aliases: ["registry_url"]
  state:
    description:
      - "Whether the host is logged in."
    type: str
    choices: ["present", "absent"]
    default: "present"
  username:
    description:
      - "The user."
      - "Needed to log in."
    type: str
  password:
    description:
      - "The password or token."
      - "Needed to log in."
    type: str
  auth_file:
    description:
      - "The file that keeps the login; C($REGISTRY_AUTH_FILE), or the user's C(.docker/config.json), if left out."
    type: str
    aliases: ["config_path"]
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: The host may push
  bayplan.containers.registry_login:
    registry: registry.example:5000
    username: ci
    password: "{{ vault_registry_password }}"

- name: It may not any more
  bayplan.containers.registry_login:
    registry: registry.example:5000
    state: absent
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
login:
  description: "C(Registry), C(Username), and who keeps the password: the C(Helper), or the file C(Path)."
  type: dict
  returned: success, but for a check
"""
