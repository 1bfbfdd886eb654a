#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_load
short_description: Take the images of an archive in on a host
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Takes in every image of an archive under the names that the archive gives it, where an image or a name is missing on the host."
  - "M(bayplan.containers.image) takes one image under a name of your own."
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
  archive:
    description:
      - "An archive on the controller (docker-archive, oci-archive)."
      - "It is carried to the host only if images or names of it are missing there."
    type: path
  remote_archive:
    description:
      - "The same, of an archive or OCI layout that is already on the host."
    type: str
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: What an archive on the controller holds is on the host
  bayplan.containers.image_load:
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
images:
  description: "The archive's images, as M(bayplan.containers.image_info) tells them."
  type: list
  elements: dict
  returned: success, but for a check
"""
