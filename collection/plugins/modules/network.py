#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: Have a network on a host, or not
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - "Makes or removes a network. A change of it keeps the containers on it running, with their names and addresses."
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
      - "The network's name."
    type: str
    required: true
  state:
    description:
      - "Whether the network exists."
    type: str
    choices: ["present", "absent"]
    default: "present"
  driver:
    description:
      - "The driver."
    type: str
    choices: ["bridge"]
  subnet:
    description:
      - "The network's addresses, such as C(10.5.0.0/24); chosen if left out."
    type: str
  gateway:
    description:
      - "The host's address in the network; the first one if left out."
    type: str
  ip_range:
    description:
      - "The part of the subnet that addresses are leased from."
    type: str
  ipam:
    description:
      - "The same as Compose writes it."
    type: dict
    suboptions:
      driver:
        description:
          - "Always C(default)."
        type: str
      config:
        description:
          - "One entry for IPv4 and one for IPv6."
        type: list
        elements: dict
        suboptions:
          subnet:
            description:
              - "The addresses."
            type: str
          gateway:
            description:
              - "The host's address."
            type: str
          ip_range:
            description:
              - "What is leased."
            type: str
  enable_ipv6:
    description:
      - "Give containers IPv6 addresses as well."
    type: bool
  internal:
    description:
      - "Let nothing of it reach the outside."
    type: bool
  labels:
    description:
      - "Labels, as a mapping or as a list of C(KEY=VALUE)."
    type: raw
  driver_opts:
    description:
      - "Options of the driver, such as C(com.docker.network.driver.mtu)."
    type: dict
  root:
    description:
      - "The state directory on the host."
      - "Another one is another, independent set of everything."
    type: str
    default: "/var/lib/bayplan"
"""

EXAMPLES = r"""
- name: A network is there
  bayplan.containers.network:
    name: backend
    subnet: 10.5.0.0/24
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
network:
  description: "What is there afterwards."
  type: raw
  returned: success, unless it is absent
"""
