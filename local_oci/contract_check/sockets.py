"""Which ports the processes of a container listen on, read from the host's /proc.

A process's /proc/<pid>/net shows its network namespace (proc_pid_net(5)).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_LISTENING = "0A"  # TCP_LISTEN, linux/net/tcp_states.h
_LOOPBACK_6 = "00000000000000000000000001000000"
_MAPPED_4 = "0000000000000000FFFF0000"
_LOOPBACK_4_END = "7F"  # the first of 127.0.0.1's bytes comes last


class ListeningSocket(NamedTuple):
    """A TCP socket that accepts connections; `loopback` if only from the container itself."""

    port: int
    loopback: bool


def listening_sockets(process: int, container: str) -> frozenset[ListeningSocket] | None:
    """The listening sockets of a container.

    Args:
        process: id of its first process, as the engine tells it.
        container: its id.

    Returns:
        None where that process cannot be seen: the engine is not on this machine.
    """
    directory = Path(f"/proc/{process}")
    try:
        if container not in (directory / "cgroup").read_text():
            return None
        tables = [(directory / "net" / name).read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return None
    return frozenset(socket for table in tables for socket in parse(table))


def parse(table: str) -> list[ListeningSocket]:
    """The listening sockets in the text of /proc/net/tcp or tcp6."""
    found = []
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == _LISTENING:
            address, _, port = local.partition(":")
            found.append(ListeningSocket(int(port, 16), _is_loopback(address)))
    return found


def _is_loopback(address: str) -> bool:
    is_v4 = len(address) == 8 or address.startswith(_MAPPED_4)
    return address == _LOOPBACK_6 or (is_v4 and address.endswith(_LOOPBACK_4_END))
