#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_prune
short_description: Remove images that nothing uses from a host
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Removes what no container is made from, and frees its room. It says what goes, or in a check what would."
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
  all:
    description:
      - "Remove all images that no container uses, those with a name too; only those without one otherwise."
    type: bool
  build_cache:
    description:
      - "Remove what of the build cache no image has, too; with O(all) everything."
    type: bool
  labels:
    description:
      - "Only images with these labels, C(KEY) or C(KEY=VALUE)."
    type: list
    elements: str
    aliases: ["label"]
  without_labels:
    description:
      - "Only images without these labels."
    type: list
    elements: str
  until:
    description:
      - "Only what is older than this, such as C(24h)."
    type: str
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: Images without a name that are older than a week go, and what of the build cache no image has
  bayplan.containers.image_prune:
    until: 168h
    build_cache: true
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
pruned:
  description: "C(Ids) of images, C(Steps) of the build cache that are gone, and how many C(Bytes) they had."
  type: dict
  returned: success, but for a check
"""
