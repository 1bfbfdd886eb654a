#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_save
short_description: Write images of a host to an archive
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Writes images to one archive on the host. It is a change where the archive does not hold just these images by these names."
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
  names:
    description:
      - "The images, by name or id."
    type: list
    elements: str
    required: true
    aliases: ["name"]
  path:
    description:
      - "The archive on the host."
      - "One that holds these images already is left alone, anything else is replaced."
    type: str
    required: true
  format:
    description:
      - "The kind of archive."
    type: str
    choices: ["docker-archive", "oci-archive"]
    default: "docker-archive"
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: An archive for hosts without a network
  bayplan.containers.image_save:
    names: [registry.example:5000/app:7]
    path: /srv/app.tar
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
archive:
  description: "C(Path) of the archive and C(Ids) of its images."
  type: dict
  returned: success, but for a check
"""
