#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_tag
short_description: Give an image on a host further names
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Gives an image names. A name is taken from whatever had it."
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
      - "The image, by name or id."
    type: str
    required: true
  tags:
    description:
      - "The names that it gets, taken from whatever had them."
    type: list
    elements: str
    required: true
    aliases: ["tag"]
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: A release has its names
  bayplan.containers.image_tag:
    name: registry.example:5000/app:7
    tags: [registry.example:5000/app:latest]
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
image:
  description: "The image, as M(bayplan.containers.image_info) tells it."
  type: dict
  returned: success, but for a check
"""
