#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: network_info
short_description: Tell about networks of a host
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Tells about networks; changes nothing."
requirements:
  - python >= 3.9 on the host, and root there
attributes:
  check_mode:
    support: full
    description: Changes nothing anyway.
  diff_mode:
    support: none
    description: Changes nothing.
options:
  names:
    description:
      - "Names of what to tell about; all if left out."
    type: list
    elements: str
    aliases: ["name"]
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: What is there
  bayplan.containers.network_info:
  register: found
"""

RETURN = r"""
networks:
  description: One mapping for each network.
  type: list
  elements: dict
  returned: success
"""
