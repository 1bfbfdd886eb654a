"""The frames that a monitor and its clients exchange: Docker's multiplexed stream, in both directions.

A frame is one byte of kind, three zero bytes, the payload's length (big endian, four bytes) and the payload.

    kind  direction  payload
    0     to         what was typed; empty: no more will come
    1, 2  from       output, standard and error (a terminal has only 1)
    3     from       the exit status, as in the file `exit`: JSON, the last frame
    4     to         "ROWS COLUMNS": the terminal's new size
    5     to         empty; the owner has cleaned up after the container

Lean, see loop.py.
"""

from __future__ import annotations

STDIN, STDOUT, STDERR, EXIT, RESIZE, CLEANED = range(6)
HEADER = 8
LONGEST = 65536  # bytes of payload


class Broken(Exception):
    """The other side does not speak this protocol."""


def frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind, 0, 0, 0)) + len(payload).to_bytes(4, "big") + payload


def take(buffer: bytearray) -> tuple[int, bytes] | None:
    """Removes the first frame from the buffer; None while it is incomplete. Raises Broken."""
    if len(buffer) < HEADER:
        return None
    length = int.from_bytes(buffer[4:HEADER], "big")
    if length > LONGEST or buffer[0] > CLEANED or buffer[1:4] != b"\0\0\0":
        raise Broken
    if len(buffer) < HEADER + length:
        return None
    kind, payload = buffer[0], bytes(buffer[HEADER : HEADER + length])
    del buffer[: HEADER + length]
    return kind, payload
