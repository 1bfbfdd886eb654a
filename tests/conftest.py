"""Every test on an old kernel: with OLD_KERNEL=1 the whole run is under a filter that answers ENOSYS to the calls of newer ones.

And every test heeds an interrupt, as what it starts does, where a shell has put the run into the background.
"""

from __future__ import annotations

import os
import signal
import struct

# What came after Linux 4.18, and what the runtime has another way for: pidfd_send_signal, open_tree, move_mount, pidfd_open, clone3,
# close_range, openat2, mount_setattr, landlock_restrict_self
NEWER = (424, 428, 429, 434, 435, 436, 437, 442, 446)


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("OLD_KERNEL"):
        from bayplan.kernel import linux

        program = [struct.pack("=HBBI", 0x20, 0, 0, 0)]
        program += [struct.pack("=HBBI", 0x15, len(NEWER) - index, 0, number) for index, number in enumerate(NEWER)]
        program += [struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000), struct.pack("=HBBI", 6, 0, 0, 0x50026)]
        linux.seccomp_filter(b"".join(program))
