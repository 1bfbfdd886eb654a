#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_copy
short_description: Copy an image between registries, layouts, archives and a host's images
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Copies an image from one place to another, byte for byte, with its digest. Whoever asks for it at the target finds it whole, or not."
  - "It is a change where the target has another digest under that name, or nothing. Logins are those of the host, see M(bayplan.containers.registry_login)."
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
  source:
    description:
      - "Where the image is: C(docker://NAME), C(oci:DIRECTORY[:TAG]), C(oci-archive:FILE[:NAME]), C(docker-archive:FILE[:NAME]) or C(store:NAME)."
    type: str
    required: true
  target:
    description:
      - "Where it goes, written the same way."
    type: str
    required: true
    aliases: ["destination"]
  all:
    description:
      - "Copy every platform of an index, with the index itself."
    type: bool
  platform:
    description:
      - "The platform to choose of an index; the host's own if left out."
    type: str
  format:
    description:
      - "Whose words the manifest is in: it then has another digest than the image came with."
    type: str
    choices: ["docker", "oci"]
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: An image goes from one registry to another, for all platforms
  bayplan.containers.image_copy:
    source: docker://docker.io/library/nginx:1.27
    target: docker://registry.example:5000/nginx:1.27
    all: true
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
copied:
  description: "C(Digest), which has the name at the target now."
  type: dict
  returned: success, but for a check
"""
