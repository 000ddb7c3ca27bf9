"""The registry's settings and its client: what is refused before anything is asked, and what failures become."""

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from registry_server import registry_server

from infra.registry_client import RegistryClient, RegistryRefused, RegistryUnreachable
from infra.servers.ports import free_port
from infra.settings_registry import RegistrySettings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": "ftp://host"}, "must begin with http"),
        ({"url": "host:8081"}, "must begin with http"),
        ({"url": "http://user:secret@host"}, "must not hold credentials"),
        ({"url": "http://host", "username": "u"}, "belong together"),
        ({"url": "http://host", "password_file": "f"}, "belong together"),
        ({"url": "http://host", "negative_cache_s": 0}, "greater than 0"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RegistrySettings(**values)


def test_credentials_come_from_a_file_and_go_with_every_question(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("se:cret\n")
    with registry_server() as server:
        settings = RegistrySettings(url=f"{server.url}/", username="u", password_file=tmp_path / "password")
        assert RegistryClient(settings).subjects()
        assert server.credentials == {"Basic " + base64.b64encode(b"u:se:cret").decode()}


@contextlib.contextmanager
def _answering(content: bytes) -> Iterator[str]:
    """A server that gives every connection the same bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(content)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", RegistryUnreachable, "does not answer"),
        (b"not HTTP at all\r\n\r\n", RegistryUnreachable, "does not answer"),
        (_http("200 OK", b"<html>"), RegistryUnreachable, "no JSON"),
        (_http("500 Oh", b"{}"), RegistryUnreachable, "with 500"),
        (_http("429 Slow", b"{}"), RegistryUnreachable, "with 429"),
        (_http("401 No", b"{}"), RegistryUnreachable, "does not allow"),
        (_http("422 No", b'{"error_code": 42201, "message": "bad\\nAvro"}'), RegistryRefused, r"\(422\): bad Avro\."),
        (_http("200 OK", b'{"schema": 7}'), RegistryUnreachable, "holds no schema"),
        (_http("200 OK", b" " * (4 * 1_048_576 + 1)), RegistryUnreachable, "more than"),
    ],
)
def test_whatever_a_server_does_becomes_one_sentence(content: bytes, kind: type[Exception], words: str) -> None:
    with _answering(content) as url, pytest.raises(kind, match=words) as failed:
        RegistryClient(RegistrySettings(url=url, timeout_ms=2_000)).schema_of_id(1)
    assert "\n" not in str(failed.value)
    assert str(failed.value).endswith(".")


def test_a_server_that_is_silent_or_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryUnreachable, match="timed out"):
            RegistryClient(RegistrySettings(url=url, timeout_ms=100)).subjects()
    with pytest.raises(RegistryUnreachable, match="refused"):
        RegistryClient(RegistrySettings(url=f"http://127.0.0.1:{free_port()}")).subjects()


def test_what_is_not_there_is_none_and_not_an_error() -> None:
    with _answering(_http("404 No", b"a page of some proxy")) as url:
        client = RegistryClient(RegistrySettings(url=url))
        assert client.schema_of_id(1) is None
        assert client.schema_of_guid(bytes(16)) is None
        assert client.versions("s") == []
