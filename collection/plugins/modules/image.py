#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Have an image on a host, or not
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Pulls an image from a registry, loads it from an archive, or removes it."
  - "No connection to a registry is opened where nothing has to be pulled."
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
      - "The image's reference, such as C(docker.io/library/nginx:1.27) or C(registry.example:5000/app@sha256:...)."
    type: str
    required: true
  state:
    description:
      - "Whether the image is on the host."
    type: str
    choices: ["present", "absent"]
    default: "present"
  pull:
    description:
      - "When to ask the registry."
    type: str
    choices: ["missing", "always", "never"]
    default: "missing"
  archive:
    description:
      - "An archive on the controller (docker-archive, oci-archive) that holds the image."
      - "It is carried to the host only if the host has no such image; no registry is asked."
    type: path
  remote_archive:
    description:
      - "The same, of an archive or OCI layout that is already on the host."
    type: path
  tags:
    description:
      - "Further names for the image."
    type: list
    elements: str
    aliases: ["tag"]
  platform:
    description:
      - "The platform to choose of an index, such as C(linux/arm64); the host's own if left out."
    type: str
  force:
    description:
      - "Remove the name even where containers were made from the image."
    type: bool
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
- name: An image is there
  bayplan.containers.image:
    name: docker.io/library/nginx:1.27

- name: An image from an archive on the controller, for hosts without a network
  bayplan.containers.image:
    name: example/app:7
    archive: app.tar
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
  description: "What is there afterwards."
  type: raw
  returned: success, unless it is absent
"""
