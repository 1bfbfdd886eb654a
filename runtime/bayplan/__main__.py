"""The door of the command line: `python3 -m bayplan`, `python3 -I -S .../bayplan/__main__.py`, and the launcher `bayplan`.

This file alone is written so that an old Python reads it too, and can say what is wrong with itself.
"""

import gc
import sys

gc.set_threshold(100000)  # a short command leaves no garbage that is worth a look: 2 ms
if sys.version_info < (3, 9):  # noqa: UP036  (whoever runs this with an older one should be told, not shown a SyntaxError)
    sys.stderr.write("bayplan: needs Python 3.9 or newer, and %s is %d.%d\n" % ((sys.executable,) + sys.version_info[:2]))  # noqa: RUF005, UP031
    sys.exit(125)

if not __package__:  # run by its path: -I keeps that path's directory out of sys.path, and it would be the wrong one
    sys.path.insert(0, __file__.rpartition("/bayplan/")[0] or ".")

from bayplan.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main(sys.argv[1:])
