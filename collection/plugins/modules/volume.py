#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: volume
short_description: Have a volume on a host, or not
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Makes or removes a volume. A volume is never made anew because of a change."
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
      - "The volume's name."
    type: str
    required: true
  state:
    description:
      - "Whether the volume exists."
      - "It is removed with its data."
    type: str
    choices: ["present", "absent"]
    default: "present"
  driver:
    description:
      - "The driver."
    type: str
    choices: ["local"]
  driver_opts:
    description:
      - "What to mount: C(type), C(o) and C(device), as for mount(8)."
      - "A change of it is an error, never a new volume."
    type: dict
  labels:
    description:
      - "Labels, as a mapping or as a list of C(KEY=VALUE)."
    type: raw
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: A volume is there
  bayplan.containers.volume:
    name: data
    labels: {team: shop}
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
volume:
  description: "What is there afterwards."
  type: raw
  returned: success, unless it is absent
"""
