"""A TCP proxy that cuts, delays, truncates and corrupts what passes, or answers for the server that it is too busy: at random,
from a seed. `python wire.py BEHIND-PORT SEED SHARE` prints its own port, and lives until it is killed."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import sys
import threading
import time

FAULTS = ("cut", "cut upwards", "truncate", "corrupt", "corrupt upwards", "delay", "429", "503")
LARGE = 8192  # upwards only what is that large is corrupted: a request's head says where it goes, and nobody could tell
BUSY = "HTTP/1.1 {} Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def serve(behind: int, seed: int, share: float) -> None:
    """`share` of the connections have a fault."""
    chance = random.Random(seed)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        fault = chance.choice(FAULTS) if chance.random() < share else ""
        at = int(2 ** chance.uniform(0, 22))
        threading.Thread(target=connection, args=(client, behind, fault, at), daemon=True).start()


def connection(client: socket.socket, behind: int, fault: str, at: int) -> None:
    with contextlib.suppress(OSError):
        if fault in ("429", "503"):
            busy(client, fault)
            return
        there = socket.create_connection(("127.0.0.1", behind))
        upwards = threading.Thread(target=copy, args=(client, there, fault if "upwards" in fault else "", at), daemon=True)
        upwards.start()
        copy(there, client, "" if "upwards" in fault else fault, at)


def busy(client: socket.socket, number: str) -> None:
    client.settimeout(2)
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data:
            break
        head += data
    client.sendall(BUSY.format(number).encode())
    client.close()


def copy(source: socket.socket, target: socket.socket, fault: str, at: int) -> None:
    """Pass bytes on; at the byte `at` the fault happens."""
    passed = 0
    try:
        while data := bytearray(source.recv(65536)):
            if fault == "delay":
                time.sleep(min(0.2, at / (1 << 22)))
            if passed <= at < passed + len(data):
                if fault.startswith("cut"):
                    target.sendall(data[: at - passed])
                    reset(source), reset(target)
                    return
                if fault == "truncate":
                    target.sendall(data[: at - passed])
                    return
                if fault == "corrupt" or (fault and len(data) >= LARGE and fault == "corrupt upwards"):
                    data[at - passed] ^= 1 << (at % 8)
            passed += len(data)
            target.sendall(data)
    except OSError:
        pass
    finally:
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def reset(each: socket.socket) -> None:
    """What a broken line looks like: a reset, and nothing more."""
    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    each.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
