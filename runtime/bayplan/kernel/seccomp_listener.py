"""A seccomp agent's socket: it answers the calls of a container whose profile has SCMP_ACT_NOTIFY.

The agent gets the filter's listener and the container process state (runtime-spec 1.2, config-linux.md, The Container Process
State), once over each connection.
"""

from __future__ import annotations

import _socket
import os
import struct

from bayplan.errors import Unavailable
from bayplan.model.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_PATH = 107  # struct sockaddr_un, without its last null


def connect(path: str) -> int:
    """A close-on-exec descriptor of a stream connected to the agent at `path`, a path of this process's own mount namespace."""
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        _connect(agent, path)
    except OSError as error:
        agent.close()
        raise Unavailable(
            f"connecting to the seccomp agent at {path} (linux.seccomp.listenerPath): {error.strerror}; start the agent first"
        ) from error
    return agent.detach()


def send(socket_fd: int, listener_fd: int, document: bytes) -> None:
    """Give the agent the listener and the process state, of which `document` is the JSON text. Both descriptors stay the caller's.

    The specification has one state for each connection: close it afterwards. Unavailable if the agent does not take all of it.
    """
    agent = _socket.socket(fileno=socket_fd)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("=i", listener_fd))]
    try:
        sent = agent.sendmsg([document], rights, _socket.MSG_NOSIGNAL)
        agent.sendall(document[sent:], _socket.MSG_NOSIGNAL)  # descriptors go with the first part only
    except OSError as error:
        raise Unavailable(f"sending the container's process state to the seccomp agent: {error.strerror}") from error
    finally:
        agent.detach()


def process_state(state: Mapping[str, object], *, pid: int, metadata: str) -> dict[str, object]:
    """The container process state: `state` is the container's, `pid` its process as the runtime sees it, `metadata` listenerMetadata."""
    told: dict[str, object] = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid}
    if metadata:
        told["metadata"] = metadata
    return {**told, "state": dict(state)}


def _connect(agent: _socket.socket, path: str) -> None:
    directory, name = os.path.split(path)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        agent.connect(path)
        return
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        agent.connect(f"/proc/self/fd/{place}/{name}")
    finally:
        os.close(place)
