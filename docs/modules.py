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

from bayplan.model.options import ACTIONS, module_options  # noqa: E402

MODULES = PROJECT / "collection" / "plugins" / "modules"

SUMMARIES = {
    "image": "Have an image on a host, or not",
    "container": "Have a container on a host, created, running, stopped or gone",
    "network": "Have a network on a host, or not",
    "volume": "Have a volume on a host, or not",
    "stack": "Converge a host to a Compose document",
    "image_build": "Build an image on a host from a Dockerfile",
    "image_copy": "Copy an image between registries, layouts, archives and a host's images",
    "image_load": "Take the images of an archive in on a host",
    "image_prune": "Remove images that nothing uses from a host",
    "image_push": "Push an image from a host to its registry",
    "image_save": "Write images of a host to an archive",
    "image_tag": "Give an image on a host further names",
    "registry_login": "Keep a host logged in to a registry, or not",
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
    "image_build": [
        "Builds an image. It is a change where the image that comes of it is another than the one that has the name.",
        "A check says from the build cache whether any step would be made, and which is the first; it runs nothing, and pulls nothing.",
        "A context on the controller is carried to the host at each run, the check's as well.",
    ],
    "image_copy": [
        "Copies an image from one place to another, byte for byte, with its digest. Whoever asks for it at the target finds it whole, or not.",
        "It is a change where the target has another digest under that name, or nothing. Logins are those of the host, see M(bayplan.containers.registry_login).",
    ],
    "image_load": [
        "Takes in every image of an archive under the names that the archive gives it, where an image or a name is missing on the host.",
        "M(bayplan.containers.image) takes one image under a name of your own.",
    ],
    "image_prune": ["Removes what no container is made from, and frees its room. It says what goes, or in a check what would."],
    "image_push": [
        "Pushes an image to the registry that its name begins with.",
        "The registry is asked for the digest that it has under that name first, and where that is the image's nothing is sent.",
    ],
    "image_save": ["Writes images to one archive on the host. It is a change where the archive does not hold just these images by these names."],
    "image_tag": ["Gives an image names. A name is taken from whatever had it."],
    "registry_login": [
        "Tries a login at the registry, and keeps it on the host for pulls, pushes and copies; or forgets it.",
        "What is stored already is left alone, and the registry is not asked then.",
        "It is stored where Docker stores it: by a credential helper that the file names, else in the file, where base64 hides nothing.",
        "A check does not find out whether a new password is right.",
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
    "image_build": """\
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
""",
    "image_copy": """\
- name: An image goes from one registry to another, for all platforms
  bayplan.containers.image_copy:
    source: docker://docker.io/library/nginx:1.27
    target: docker://registry.example:5000/nginx:1.27
    all: true
""",
    "image_load": """\
- name: What an archive on the controller holds is on the host
  bayplan.containers.image_load:
    archive: app.tar
""",
    "image_prune": """\
- name: Images without a name that are older than a week go, and what of the build cache no image has
  bayplan.containers.image_prune:
    until: 168h
    build_cache: true
""",
    "image_push": """\
- name: The registry has what the host has
  bayplan.containers.image_push:
    name: registry.example:5000/app:7
""",
    "image_save": """\
- name: An archive for hosts without a network
  bayplan.containers.image_save:
    names: [registry.example:5000/app:7]
    path: /srv/app.tar
""",
    "image_tag": """\
- name: A release has its names
  bayplan.containers.image_tag:
    name: registry.example:5000/app:7
    tags: [registry.example:5000/app:latest]
""",
    "registry_login": """\
- name: The host may push
  bayplan.containers.registry_login:
    registry: registry.example:5000
    username: ci
    password: "{{ vault_registry_password }}"

- name: It may not any more
  bayplan.containers.registry_login:
    registry: registry.example:5000
    state: absent
""",
}
RESULTS = {
    "image": ("raw", "What is there afterwards."),
    "container": ("raw", "What is there afterwards."),
    "network": ("raw", "What is there afterwards."),
    "volume": ("raw", "What is there afterwards."),
    "stack": ("raw", "What is there afterwards."),
    "image_build": ("dict", "The image, as M(bayplan.containers.image_info) tells it."),
    "image_copy": ("dict", "C(Digest), which has the name at the target now."),
    "image_load": ("list", "The archive's images, as M(bayplan.containers.image_info) tells them."),
    "image_prune": ("dict", "C(Ids) of images, C(Steps) of the build cache that are gone, and how many C(Bytes) they had."),
    "image_push": ("list", "C(Name) and C(Digest) of each image that the registry has now."),
    "image_save": ("dict", "C(Path) of the archive and C(Ids) of its images."),
    "image_tag": ("dict", "The image, as M(bayplan.containers.image_info) tells it."),
    "registry_login": ("dict", "C(Registry), C(Username), and who keeps the password: the C(Helper), or the file C(Path)."),
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
{{ result }}:
  description: {{ told | quoted }}
  type: {{ told_type }}
{% if told_type == "list" %}
  elements: dict
{% endif %}
  returned: {{ "success, but for a check" if action else "success, unless it is absent" }}
{% endif %}
"""
'''
)


def render(module: str) -> str:
    """The text of a module's file."""
    info = module.endswith("_info")
    kind = module.removesuffix("_info")
    told_type, told = RESULTS[kind]
    return TEMPLATE.render(
        name=module,
        kind=kind,
        action=module in ACTIONS,
        result=ACTIONS[module].result if module in ACTIONS else kind,
        told=told,
        told_type=told_type,
        info=info,
        summary=f"Tell about {kind}s of a host" if info else SUMMARIES[kind],
        description=[f"Tells about {kind}s; changes nothing."] if info else DESCRIPTIONS[kind],
        check_mode="Changes nothing anyway." if info else "Says what would be done, and does nothing.",
        diff_mode="Changes nothing." if info else "Shows what is changed of each resource.",
        options=list(module_options(module)),
        example=f"- name: What is there\n  bayplan.containers.{module}:\n  register: found\n" if info else EXAMPLES[kind],
    )


def modules() -> list[str]:
    return [name for kind in SUMMARIES for name in ((kind,) if kind in ACTIONS else (kind, f"{kind}_info"))]


if __name__ == "__main__":
    for name in modules():
        (MODULES / f"{name}.py").write_text(render(name))
