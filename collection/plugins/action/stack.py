# Copyright (c) 2026, the bayplan authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of every module of this collection (meta/runtime.yml leads them all here).

It translates a task into a request, has the host run it, and sends the runtime's archive only to a host that answers that
it has none. So a task costs one module's execution, as any other module does.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import sys
import tempfile
import zipfile
import zlib

import ansible.constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError
from ansible.plugins.action import ActionBase

COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SHIPPED = os.path.join(COLLECTION, "files", "bayplan.zip")
CALL = "bayplan.containers.call"


@functools.cache
def find_archive():
    """The path of the archive to send, and its digest, which is what the runtime is called on a host."""
    if not os.path.exists(SHIPPED):
        import archive

        path = str(archive.cached())
        return path, os.path.basename(path).partition(".")[0]
    with open(SHIPPED + ".sha256", encoding="ascii") as file:
        return SHIPPED, file.read().split()[0]


def find_runtime():
    """The directory that bayplan is imported from here: beside the collection where pip put both, a checkout, or the archive's content."""
    installed = os.path.dirname(os.path.dirname(os.path.dirname(COLLECTION)))
    if not os.path.exists(SHIPPED):
        return os.path.join(os.path.dirname(COLLECTION), "runtime")
    if os.path.exists(os.path.join(installed, "bayplan", "model", "task.py")):
        return installed
    return unpack_archive()


def unpack_archive():
    """Ansible's own importer does not look into an archive that lies inside a collection, so it is unpacked once for each user."""
    path, digest = find_archive()
    target = os.path.join(C.ANSIBLE_HOME, "bayplan", digest)
    if not os.path.exists(target):
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        scratch = tempfile.mkdtemp(dir=os.path.dirname(target))
        with zipfile.ZipFile(path) as content:
            content.extractall(scratch)
        try:
            os.rename(scratch, target)
        except OSError:
            shutil.rmtree(scratch)
            if not os.path.exists(target):  # else somebody else was first
                raise
    return target


def load_runtime():
    """Import what a task needs. bayplan comes from find_runtime, whatever else has that name: it has to fit the archive that is sent."""
    path = find_runtime()
    if path not in sys.path:
        sys.path.insert(0, path)
    from bayplan import controller
    from bayplan.errors import BayplanError
    from bayplan.model import options, task

    return controller, BayplanError, options, task


# Once for a playbook: the processes of its tasks are forked from this one.
controller, BayplanError, tables, tasks = load_runtime()
find_archive()


class ActionModule(ActionBase):
    """One task of any module of the collection."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        module = self._task.action.rpartition(".")[2]
        options = self._validate(module)
        try:
            verb, want = self._translate(module, options, task_vars)
        except BayplanError as error:
            raise AnsibleActionFail(str(error)) from error
        request = self._request(verb, want, options)
        if module in ("container", "image", "network", "volume") and not self._task.check_mode:
            request["tell"] = module
        result = self._call(request, task_vars)
        return self._render(module, result)

    def _request(self, verb, want, options):
        check, diff = bool(self._task.check_mode), bool(self._task.diff)
        return {"verb": verb, "want": want, "check": check, "diff": diff, "root": options["root"]}

    def _validate(self, module):
        """The task's options, checked against the table that the documentation is made of."""
        validation = ArgumentSpecValidator(tables.argument_spec(tables.module_options(module))).validate(self._task.args)
        if validation.error_messages:
            unsupported = f"Unsupported parameters for (bayplan.containers.{module}) module: "  # which Ansible's error leaves to us
            texts = [unsupported + error.msg if isinstance(error, UnsupportedError) else error.msg for error in validation.errors]
            raise AnsibleActionFail("; ".join(texts))
        return validation.validated_parameters

    def _translate(self, module, options, task_vars):
        """(verb, want) for a module's options."""
        if module.endswith("_info"):
            return "info", tasks.info_want(module.removesuffix("_info"), options.get("names"))
        if module == "stack":
            options["files"] = [self._find(path) for path in options["files"] or ()]
            return "converge", controller.stack_want(options, base=self._base())
        if module == "container":
            return "converge", controller.container_with_files(options, base=self._base())
        if module in tables.ACTIONS:
            return tables.ACTIONS[module].verb, self._translate_action(module, options, task_vars)
        if module == "image":
            options = self._bring_image(options, task_vars)
        return "converge", getattr(tasks, module + "_want")(options)

    def _translate_action(self, module, options, task_vars):
        """What an action wants, with what it takes from the controller on the host by then."""
        if module == "image_build":
            return self._bring_context(options)
        if module == "image_load" and options.get("archive"):
            return self._bring_archive(options, task_vars)
        return tasks.action_want(options)

    def _bring_context(self, options):
        """Carry a build's context to the host; a check needs it there, too, to say what is cached."""
        with tempfile.TemporaryDirectory(dir=C.DEFAULT_LOCAL_TMP) as directory:
            packed = os.path.join(directory, "context.tar.gz")
            want = controller.build_want(options, base=self._base(), packed=packed)
            if os.path.exists(packed):
                want["remote_context"] = self._send(packed, "context.tar.gz")
        return want

    def _bring_archive(self, options, task_vars):
        """Send an archive of images to the host, unless that has all of it."""
        path = self._find(options["archive"])
        if options.get("remote_archive"):
            raise AnsibleActionFail("archive and remote_archive say the same, give one of them")
        want = controller.load_want(path)
        if want:
            told = self._call(self._request("load", want, options), task_vars)
            if told.get("failed"):
                raise AnsibleActionFail(told["msg"])
            if self._task.check_mode or not told["changed"]:
                return want
        return {"remote_archive": self._send(path, "images.tar")}

    def _base(self):
        """Where paths that a task names start: its role's files, else its playbook's directory."""
        role = self._task._role
        files = os.path.join(role._role_path, "files") if role else ""
        return files if os.path.isdir(files) else self._loader.get_basedir()

    def _find(self, path):
        """A file of the controller: in its role's or playbook's files, or relative to the playbook."""
        try:
            return self._find_needle("files", path)
        except AnsibleError:
            raise AnsibleActionFail(f"reading {path} on the controller: there is no such file") from None

    def _bring_image(self, options, task_vars):
        """Send an image's archive to the host, unless the host has that image already."""
        options["archive"], local = options.pop("remote_archive", None), options.get("archive")
        if local is None or options["state"] == "absent":
            return options
        if options["archive"]:
            raise AnsibleActionFail("archive and remote_archive say the same, give one of them")
        request = {"verb": "info", "want": tasks.info_want("image", [options["name"]]), "root": options["root"]}
        known = self._call(request | {"check": bool(self._task.check_mode)}, task_vars)
        if known.get("failed"):
            raise AnsibleActionFail(known["msg"])
        path = self._find(local)
        if any(controller.archive_holds(path, image["Id"]) for image in known.get("result") or ()):
            return options
        options["archive"] = self._send(path, "image.tar")
        return options

    def _call(self, request, task_vars):
        """Have the host run a request; the archive of the runtime goes there first where it is missing."""
        path, digest = find_archive()
        packed = base64.b64encode(zlib.compress(json.dumps(request).encode(), 1)).decode()
        arguments = {"request": packed, "digest": digest, "root": request["root"]}
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        if wrap_async:  # a job that finds no runtime would end well and converge nothing
            made_sure = self._execute(arguments | {"request": ""}, path, task_vars)
            return made_sure if made_sure.get("failed") else self._execute_module(CALL, arguments, task_vars=task_vars, wrap_async=True)
        return self._execute(arguments, path, task_vars)

    def _execute(self, arguments, path, task_vars):
        result = self._execute_module(CALL, arguments, task_vars=task_vars)
        if not result.get("missing_runtime"):
            return result
        sent = self._send(path, "bayplan.zip")
        return self._execute_module(CALL, arguments | {"archive": sent}, task_vars=task_vars)

    def _send(self, path, name):
        """Copy a file into the task's own directory on the host; returns its path there."""
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, name)
        self._transfer_file(path, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote), execute=False)
        return remote

    def _render(self, module, result):
        """The host's answer in the module's own words."""
        result.pop("invocation", None)  # its arguments are this plugin's, and the request is compressed
        if result.get("failed") or "ansible_job_id" in result:
            return result
        outcome = result.pop("result", None)
        if module.endswith("_info"):
            return result | {module.removesuffix("_info") + "s": outcome or []}
        name = tables.ACTIONS[module].result if module in tables.ACTIONS else module
        return result | ({} if outcome is None else {name: outcome})
