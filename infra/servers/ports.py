"""Free loopback ports for the servers that we start."""

import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_LOWEST: Final = 12_000
_RANGE_OF_CLIENTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(former: int | None = None) -> int:
    """Return a loopback port that was free a moment ago: the ``former`` one, if that is still to be had.

    It lies below the range from which the kernel serves outgoing connections, so that no client is given it while
    its server restarts. Another server may still take it first: then the start fails, and says so.
    """
    text = _RANGE_OF_CLIENTS.read_text() if _RANGE_OF_CLIENTS.exists() else "32768"
    highest = max(int(text.split()[0]) - 1, _LOWEST)
    if former is not None and _is_free(former):
        return former
    generator = random.SystemRandom()
    while not _is_free(port := generator.randint(_LOWEST, highest)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # What a server has left behind that ended a moment ago is no server, and servers bind over it as well.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def port_is_open(port: int, host: str = LOOPBACK) -> bool:
    """Return whether something listens on a port, on this machine unless said otherwise."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True
