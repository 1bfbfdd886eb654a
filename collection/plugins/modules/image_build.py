#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build an image on a host from a Dockerfile
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Builds an image. It is a change where the image that comes of it is another than the one that has the name."
  - "A check says from the build cache whether any step would be made, and which is the first; it runs nothing, and pulls nothing."
  - "A context on the controller is carried to the host at each run, the check's as well."
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
      - "The name that the image gets."
    type: str
    required: true
  tags:
    description:
      - "Further names for it."
    type: list
    elements: str
    aliases: ["tag"]
  context:
    description:
      - "A directory on the controller with what the Dockerfile copies."
      - "Its files are carried to the host, but for those that C(.dockerignore) leaves out."
    type: path
  remote_context:
    description:
      - "The same on the host: a directory, an archive, or the address of an archive or a git repository."
    type: str
  dockerfile:
    description:
      - "The Dockerfile, relative to the context; C(Dockerfile) or C(Containerfile) if left out."
      - "With O(context) it may be another file of the controller's."
    type: str
  dockerfile_inline:
    description:
      - "The Dockerfile's text."
      - "Without a context there is nothing to copy."
    type: str
  args:
    description:
      - "Values of the Dockerfile's ARGs."
    type: dict
    aliases: ["build_args"]
  target:
    description:
      - "The stage to build; the last one if left out."
    type: str
  labels:
    description:
      - "Labels for the image."
    type: dict
  platform:
    description:
      - "The platform to build for, such as C(linux/arm64); the host's own if left out."
    type: str
  secrets:
    description:
      - "What C(RUN --mount=type=secret) may read, by its id."
      - "It is in no layer, no record and no result."
    type: dict
  pull:
    description:
      - "Ask the registries whether they have newer base images."
    type: bool
  nocache:
    description:
      - "Make every step anew."
    type: bool
    aliases: ["no_cache"]
  source_date_epoch:
    description:
      - "Seconds since 1970: no time in the image is later."
    type: int
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: An image of what lies beside the playbook
  bayplan.containers.image_build:
    name: registry.example:5000/app:7
    context: app
    args: {VERSION: "7"}
    secrets: {token: "{{ vault_token }}"}

- name: An image without a context
  bayplan.containers.image_build:
    name: tools:1
    dockerfile_inline: |
      FROM docker.io/library/alpine:3.22
      RUN apk add --no-cache curl
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
