#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_push
short_description: Push an image from a host to its registry
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Pushes an image to the registry that its name begins with."
  - "The registry is asked for the digest that it has under that name first, and where that is the image's nothing is sent."
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
      - "The image's name, which says where it goes; with O(all_tags) a repository's name, without a tag."
    type: str
    required: true
  all_tags:
    description:
      - "Push every image of the repository."
    type: bool
  compression:
    description:
      - "How layers are packed that were made here; C(gzip) if left out."
    type: str
    choices: ["gzip", "zstd"]
  format:
    description:
      - "Whose words the manifest is in: it then has another digest than the image came with."
    type: str
    choices: ["docker", "oci"]
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
- name: The registry has what the host has
  bayplan.containers.image_push:
    name: registry.example:5000/app:7
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
pushed:
  description: "C(Name) and C(Digest) of each image that the registry has now."
  type: list
  elements: dict
  returned: success, but for a check
"""
