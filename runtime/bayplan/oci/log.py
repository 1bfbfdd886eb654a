"""The log that an engine asks for by `--log FILE --log-format text|json`: a line for each thing said, appended."""

from __future__ import annotations

import os
import time

from bayplan.model import jsontext


def write(path: str, level: str, message: str, *, form: str) -> None:
    """Append a line; a file that cannot be written is no reason to fail, as what is said went to stderr, too."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    quoted = jsontext.dumps(message)
    line = jsontext.dumps({"level": level, "msg": message, "time": now}) if form == "json" else f'time="{now}" level={level} msg={quoted}'
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)
