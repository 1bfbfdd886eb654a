#!/usr/bin/python
# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: call
short_description: Run one request of this collection on a host
version_added: 0.1.0
author: [The bayplan authors (@bayplan)]
description:
  - What the other modules of this collection run on the host. Their action plugin calls it; a playbook has no use for it.
  - It answers that the runtime is missing where it is, so that the archive is only sent to a host that needs it.
options:
  request:
    description: The request as JSON, compressed and in base64; empty to make sure of the runtime only.
    type: str
    required: true
  digest:
    description: The digest of the runtime's archive.
    type: str
    required: true
  root:
    description: The state directory.
    type: path
    default: /var/lib/bayplan
  archive:
    description: The runtime's archive on the host, where it was sent.
    type: path
requirements:
  - python >= 3.9 on the host, with its whole standard library
attributes:
  check_mode:
    support: full
    description: Says what would be done, and does nothing.
  diff_mode:
    support: full
    description: Shows what is changed of each resource.
extends_documentation_fragment: []
"""

EXAMPLES = r"""
# The other modules use it: see bayplan.containers.stack.
"""

RETURN = r"""
missing_runtime:
  description: The runtime is not on the host, and nothing was done.
  type: bool
  returned: when it is missing
steps:
  description: What was changed, or would be in check mode, in order.
  type: list
  elements: dict
  returned: success
"""

import sys

from ansible.module_utils.basic import AnsibleModule

SPEC = {
    "request": {"type": "str", "required": True, "no_log": True},
    "digest": {"type": "str", "required": True},
    "root": {"type": "path", "default": "/var/lib/bayplan"},
    "archive": {"type": "path"},
}
NEEDED = ("ctypes", "json", "sqlite3", "zlib", "fcntl", "hashlib")


def require_host(module):
    """Say what is wrong with the host before anything else does in its own words."""
    import importlib.util
    import os

    if sys.version_info < (3, 9):
        module.fail_json(
            msg="bayplan needs Python 3.9 or newer on the host, and %s is %d.%d: name a newer one in "
            "ansible_python_interpreter" % ((sys.executable,) + sys.version_info[:2])
        )
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        module.fail_json(
            msg="the host's %s lacks %s of the standard library: install the whole Python "
            "(on Debian: apt install python3)" % (sys.executable, ", ".join(missing))
        )
    if os.geteuid() != 0:
        module.fail_json(msg="bayplan needs root on the host, and this is user %d: set become: true" % os.geteuid())


def find_runtime(root, digest):
    """The directory of the runtime that is in place, held against sweeping until this process ends, or None."""
    import fcntl
    import os

    path = "%s/runtime/%s" % (root, digest)
    try:
        held = os.open(path + "/lock", os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        if os.fstat(held).st_uid != 0 or not os.path.exists(path + "/lock"):
            return None
        os.utime(held)  # used now: another version's install keeps it for a day
        return path
    except OSError:
        return None


def unpack_runtime(module, directory):
    """Put the archive that was sent in place (in check mode: nowhere but the task's own directory); returns its directory."""
    import hashlib
    import os

    with open(module.params["archive"], "rb") as file:
        archive = file.read()
    if hashlib.sha256(archive).hexdigest() != module.params["digest"]:
        module.fail_json(msg="the runtime that arrived on the host is not the one that was sent; nothing was done")
    path = os.path.join(directory, "bayplan.zip")
    with open(path, "xb") as file:
        file.write(archive)
    if module.check_mode:
        return path
    sys.path.insert(0, path)
    from bayplan.install import install

    try:
        runtime = install(archive, module.params["digest"], module.params["root"])
    except Exception as error:
        module.fail_json(msg=str(error))
    sys.path.remove(path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "bayplan"]:
        del sys.modules[name]
    return runtime


def decode(request):
    import base64
    import json
    import zlib

    return json.loads(zlib.decompress(base64.b64decode(request)))


def run(request, runtime):
    """Hand the request to the runtime in this process; returns the task's result."""
    sys.path.insert(0, runtime)
    from bayplan import bytecode

    bytecode.use(runtime)
    from bayplan.task import run_task

    return run_task(request)


def main():
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    root, digest = module.params["root"], module.params["digest"]
    runtime = find_runtime(root, digest)
    if runtime is None:
        require_host(module)
        if not module.params["archive"]:
            module.exit_json(changed=False, missing_runtime=True)
        import tempfile

        scratch = tempfile.TemporaryDirectory(dir=module.tmpdir)
        runtime = unpack_runtime(module, scratch.name)
    if not module.params["request"]:
        module.exit_json(changed=False)
    try:
        result = run(decode(module.params["request"]), runtime)
    except ImportError as error:
        require_host(module)
        module.fail_json(msg="the runtime in %s is damaged (%s): remove that directory, and it is sent again" % (runtime, error))
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
