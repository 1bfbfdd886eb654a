"""The per-container monitor's script: python -I -S monitor.py ID DESCRIPTOR. launch.exec_monitor() runs it.

Compiled anew at each start, for it is not imported; so it is short. It imports nothing after its start: an upgrade of the
interpreter under a running container must not matter.
"""

from __future__ import annotations

import sys


def main() -> None:
    sys.path.insert(0, __file__.rpartition("/bayplan/")[0])
    from bayplan.supervise.settings import close_on_exec, load_config
    from bayplan.supervise.watch import Monitor

    config = load_config(int(sys.argv[2]))
    close_on_exec()
    Monitor(config).run()


if __name__ == "__main__":
    main()
