"""Writes every task's result as a line of JSON, for tests to read."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: results
type: notification
short_description: Write results for tests
description: [Writes every task's result as a line of JSON to the file in RESULTS.]
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "results"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, outcome, result):
        data = dict(result._result)
        line = {"task": result._task.get_name(), "host": result._host.get_name(), "outcome": outcome, **data}
        with open(os.environ["RESULTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result, **kwargs):
        self._write("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False, **kwargs):
        self._write("failed", result)

    def v2_runner_on_unreachable(self, result, **kwargs):
        self._write("unreachable", result)
