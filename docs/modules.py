"""Writes the collection's documentation-only module files from the option table. A test says when they are out of date.

    python docs/modules.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jinja2

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "runtime"))

from bayplan.model.options import module_options  # noqa: E402

MODULES = PROJECT / "collection" / "plugins" / "modules"

SUMMARIES = {
    "image": "Have an image on a host, or not",
    "container": "Have a container on a host, created, running, stopped or gone",
    "network": "Have a network on a host, or not",
    "volume": "Have a volume on a host, or not",
    "stack": "Converge a host to a Compose document",
}
DESCRIPTIONS = {
    "image": ["Pulls an image from a registry, loads it from an archive, or removes it.", "No connection to a registry is opened where nothing has to be pulled."],
    "container": [
        "Creates, changes, starts, stops or removes one container. Options are the keys of a Compose service.",
        "An option that is left out has its default, and one that was taken away is taken away; O(ignore) names what is left alone.",
        "What the kernel can change on a running container is changed in place; for all else it is replaced.",
    ],
    "network": ["Makes or removes a network. A change of it keeps the containers on it running, with their names and addresses."],
    "volume": ["Makes or removes a volume. A volume is never made anew because of a change."],
    "stack": [
        "Makes the images, networks, volumes and containers of a Compose document so, in the order of their dependencies, in one call.",
        "Files that the document names (C(env_file), C(secrets), C(configs)) are read on the controller and carried to the host.",
        "An unknown key is an error.",
    ],
}  # fmt: skip
EXAMPLES = {
    "image": """\
- name: An image is there
  bayplan.containers.image:
    name: docker.io/library/nginx:1.27

- name: An image from an archive on the controller, for hosts without a network
  bayplan.containers.image:
    name: example/app:7
    archive: app.tar
""",
    "container": """\
- name: A web server runs
  bayplan.containers.container:
    name: web
    image: docker.io/library/nginx:1.27
    ports: ["8080:80"]
    restart: unless-stopped
    memory: 256m

- name: It is stopped; only its name is needed
  bayplan.containers.container:
    name: web
    state: stopped
""",
    "network": """\
- name: A network is there
  bayplan.containers.network:
    name: backend
    subnet: 10.5.0.0/24
""",
    "volume": """\
- name: A volume is there
  bayplan.containers.volume:
    name: data
    labels: {team: shop}
""",
    "stack": """\
- name: The host runs what the file says
  bayplan.containers.stack:
    files: [compose.yaml]
    project_name: shop

- name: The same, written here
  bayplan.containers.stack:
    project_name: shop
    definition:
      services:
        web:
          image: docker.io/library/nginx:1.27
          ports: ["8080:80"]
""",
}

ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters["sentences"] = lambda text: [sentence.rstrip(".") + "." for sentence in text.split(". ")]
ENVIRONMENT.filters["quoted"] = lambda text: json.dumps(text)  # plain characters: tojson is for HTML
TEMPLATE = ENVIRONMENT.from_string(
    '''\
#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Written by docs/modules.py from the option table; change that.

from __future__ import annotations

DOCUMENTATION = r"""
module: {{ name }}
short_description: {{ summary }}
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
{% for line in description %}
  - {{ line | quoted }}
{% endfor %}
requirements:
  - python >= 3.9 on the host, and root there
attributes:
  check_mode:
    support: full
    description: {{ check_mode }}
  diff_mode:
    support: {{ "none" if info else "full" }}
    description: {{ diff_mode }}
options:
{% macro render(options, indent) %}
{% for option in options %}
{{ indent }}{{ option.name }}:
{{ indent }}  description:
{% for sentence in option.description | sentences %}
{{ indent }}    - {{ sentence | quoted }}
{% endfor %}
{{ indent }}  type: {{ option.type }}
{% if option.elements %}
{{ indent }}  elements: {{ option.elements }}
{% endif %}
{% if option.required %}
{{ indent }}  required: true
{% endif %}
{% if option.choices %}
{{ indent }}  choices: {{ option.choices | list | tojson }}
{% endif %}
{% if option.default is not none %}
{{ indent }}  default: {{ option.default | tojson }}
{% endif %}
{% if option.aliases %}
{{ indent }}  aliases: {{ option.aliases | list | tojson }}
{% endif %}
{% if option.options %}
{{ indent }}  suboptions:
{{ render(option.options, indent + "    ") }}
{%- endif %}
{% endfor %}
{% endmacro %}
{{ render(options, "  ") -}}
"""

EXAMPLES = r"""
{{ example -}}
"""

RETURN = r"""
{% if info %}
{{ kind }}s:
  description: One mapping for each {{ kind }}.
  type: list
  elements: dict
  returned: success
{% else %}
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
{{ kind }}:
  description: What is there afterwards.
  type: raw
  returned: success, unless it is absent
{% endif %}
"""
'''
)


def render(module: str) -> str:
    """The text of a module's file."""
    info = module.endswith("_info")
    kind = module.removesuffix("_info")
    return TEMPLATE.render(
        name=module,
        kind=kind,
        info=info,
        summary=f"Tell about {kind}s of a host" if info else SUMMARIES[kind],
        description=[f"Tells about {kind}s; changes nothing."] if info else DESCRIPTIONS[kind],
        check_mode="Changes nothing anyway." if info else "Says what would be done, and does nothing.",
        diff_mode="Changes nothing." if info else "Shows what is changed of each resource.",
        options=list(module_options(module)),
        example=f"- name: What is there\n  bayplan.containers.{module}:\n  register: found\n" if info else EXAMPLES[kind],
    )


def modules() -> list[str]:
    return [name for kind in SUMMARIES for name in (kind, f"{kind}_info")]


if __name__ == "__main__":
    for name in modules():
        (MODULES / f"{name}.py").write_text(render(name))
