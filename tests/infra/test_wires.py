"""The wires of the fault campaign do what the faults say: cut, torn in the middle of a record, silent, lost."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from wire import TlsWire, Wire

RECORD = struct.pack("!BHH", 23, 0x0303, 100) + bytes(100)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says everything back."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while words := connection.recv(65536):
                connection.sendall(words)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def _client(wire: Wire) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", wire.port))
    client.settimeout(5)
    return client


def _all(client: socket.socket) -> bytes:
    words = b""
    while more := client.recv(65536):
        words += more
    return words


def test_a_tear_is_in_the_middle_of_a_record_and_ends_in_order(echo: int) -> None:
    wire = TlsWire(target_port=echo).start()
    with _client(wire) as client:
        client.sendall(RECORD)
        assert client.recv(len(RECORD), socket.MSG_WAITALL) == RECORD
        assert wire.tear() == 1
        client.sendall(RECORD + RECORD)
        assert _all(client) == b"", "the half that got through was the client's own, and nobody answers halves"
    assert (wire.taken, wire.torn) == (1, 1)
    with _client(wire) as client:
        client.sendall(RECORD)
        assert client.recv(len(RECORD), socket.MSG_WAITALL) == RECORD, "new connections go through"
    wire.stop()


def test_half_of_what_a_server_says_arrives_before_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = TlsWire(target_port=server.getsockname()[1]).start()
        with _client(wire) as client, server.accept()[0] as far:
            far.sendall(RECORD)
            assert client.recv(len(RECORD), socket.MSG_WAITALL) == RECORD
            wire.tear()
            far.sendall(RECORD + RECORD)
            assert _all(client) == RECORD[: len(RECORD) // 2]
        wire.stop()


def test_while_it_tears_a_greeting_is_torn(echo: int) -> None:
    wire = TlsWire(target_port=echo).start()
    wire.tearing = True
    with _client(wire) as client:
        client.sendall(RECORD)
        assert _all(client) == b""
    wire.tearing = False
    assert wire.torn == 1
    wire.stop()


def test_a_cut_is_told_and_silence_is_not(echo: int) -> None:
    wire = Wire(target_port=echo).start()
    with _client(wire) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        assert wire.silence() == 1
        client.sendall(b"b")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert wire.cut() == 1
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    wire.stop()
