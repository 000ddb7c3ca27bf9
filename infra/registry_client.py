"""A schema registry by its Confluent REST API (v1), whoever's server it is: only what TraderMind asks of one.

It blocks, and keeps nothing: callers run it in a thread and decide what to remember. The standard library is enough,
since the client that comes with confluent-kafka would bring an OAuth library and two HTTP ones into every worker.
"""

import base64
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.settings_registry import RegistrySettings
from infra.settings_sections import read_secret
from schemas.schema_table import schema_fingerprint

FULL_TRANSITIVE: Final = "FULL_TRANSITIVE"
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_ANSWER_BYTES_MAX: Final = 4 * 1_048_576
_NOT_FOUND: Final = 404
_OK: Final = 200
_UNAUTHORISED: Final = (401, 403)
_SERVERS_FAULT: Final = 500
_TOO_MANY: Final = 429


class RegistryFailed(Exception):
    """The registry did not do what was asked, in one clear sentence."""


class RegistryUnreachable(RegistryFailed):
    """No answer, or none that means anything: what is asked again later may be answered."""


class RegistryRefused(RegistryFailed):
    """The registry said no: ``status`` is HTTP's, ``code`` the registry's own (409, 42201, ...)."""

    def __init__(self, sentence: str, status: int, code: int) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema as a registry keeps it. ``guid`` is what some registries name it by in headers, 16 bytes."""

    schema_id: int
    schema: Any
    version: int = 0
    guid: bytes | None = None


class RegistryClient:
    """Speaks to one registry. Every method raises RegistryUnreachable or RegistryRefused unless it says more."""

    def __init__(self, settings: RegistrySettings) -> None:
        assert settings.url is not None, "a registry client needs registry.url"
        self.url = settings.url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        self._host, self._path = parts.netloc.rpartition("@")[2], parts.path
        self._secure = parts.scheme == "https"
        self._timeout_s = settings.timeout_ms / 1000
        self._ca_file = settings.ca_file
        self._headers = {"Accept": f"{_CONTENT_TYPE}, application/json", "Content-Type": _CONTENT_TYPE}
        if settings.username is not None and settings.password_file is not None:
            secret = f"{settings.username}:{read_secret(settings.password_file)}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()

    def subjects(self) -> list[str]:
        """Return the names of all subjects."""
        return [str(name) for name in self._ask("GET", "/subjects")]

    def schema_of_id(self, schema_id: int) -> Registered | None:
        """Return the schema of an id, or None when the registry has none. Raises RegistryRefused for one not Avro."""
        answer = self._find("GET", f"/schemas/ids/{schema_id}")
        return None if answer is None else _registered(answer, schema_id)

    def schema_of_guid(self, guid: bytes) -> Registered | None:
        """Return the schema of a GUID, or None; a registry that knows no GUIDs has none."""
        answer = self._find("GET", f"/schemas/guids/{_dashed(guid)}")
        return None if answer is None else _registered({"guid": guid.hex()} | answer, 0)

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject, oldest first; none for a subject that is not there."""
        return sorted(int(number) for number in self._find("GET", f"/subjects/{_quoted(subject)}/versions") or ())

    def version(self, subject: str, version: int) -> Registered:
        """Return one version of a subject."""
        return _registered(self._ask("GET", f"/subjects/{_quoted(subject)}/versions/{version}"), 0)

    def look_up(self, subject: str, schema: Mapping[str, Any]) -> Registered | None:
        """Return what a subject has this schema as, or None. Descriptions do not count: they are not the contract."""
        answer = self._find("POST", f"/subjects/{_quoted(subject)}", _body(schema))
        if answer is not None:
            return _registered(answer, 0)
        wanted = schema_fingerprint(schema)
        for version in reversed(self.versions(subject)):
            registered = self.version(subject, version)
            if schema_fingerprint(registered.schema) == wanted:
                return registered
        return None

    def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Add a schema to a subject, or find it there; return its id."""
        return int(self._ask("POST", f"/subjects/{_quoted(subject)}/versions", _body(schema))["id"])

    def compatibility(self, subject: str) -> str | None:
        """Return a subject's own compatibility level, or None when it goes by the registry's."""
        answer = self._find("GET", f"/config/{_quoted(subject)}")
        return None if answer is None else str(answer.get("compatibilityLevel"))

    def set_compatibility(self, subject: str, level: str) -> None:
        """Give a subject a compatibility level of its own."""
        self._ask("PUT", f"/config/{_quoted(subject)}", {"compatibility": level})

    def _find(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            return self._ask(method, path, body)
        except RegistryRefused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        status, content = self._exchange(method, self._path + path, body)
        try:
            answer: Any = json.loads(content)
        except ValueError:
            if status != _NOT_FOUND:
                raise RegistryUnreachable(f"{self.url} answers {method} {path} with {status} and no JSON.") from None
            answer = {}
        if status == _OK:
            return answer
        if status >= _SERVERS_FAULT or status == _TOO_MANY:
            raise RegistryUnreachable(f"The schema registry {self.url} answers {method} {path} with {status}.")
        if status in _UNAUTHORISED:
            raise RegistryUnreachable(f"The schema registry {self.url} does not allow {method} {path} ({status}).")
        facts = answer if isinstance(answer, dict) else {}
        message = " ".join(str(facts.get("message", "no reason")).split())[:600]
        sentence = f"The schema registry {self.url} refuses {method} {path} ({status}): {message.rstrip('.')}."
        raise RegistryRefused(sentence, status, int(facts.get("error_code", status)))

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            content = response.read(_ANSWER_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
            raise RegistryUnreachable(f"The schema registry {self.url} does not answer: {reason}.") from error
        finally:
            connection.close()
        if len(content) > _ANSWER_BYTES_MAX:
            raise RegistryUnreachable(
                f"The schema registry {self.url} answers with more than {_ANSWER_BYTES_MAX} bytes."
            )
        return response.status, content

    def _connection(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, timeout=self._timeout_s)
        context = ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))
        return http.client.HTTPSConnection(self._host, timeout=self._timeout_s, context=context)


def _registered(answer: Mapping[str, Any], schema_id: int) -> Registered:
    kind = answer.get("schemaType", "AVRO")
    if kind != "AVRO":
        raise RegistryRefused(f"Schema {answer.get('id', schema_id)} is {kind}; only Avro is read.", _OK, 0)
    references: Sequence[Any] = answer.get("references") or ()
    if references:
        number = answer.get("id", schema_id)
        raise RegistryRefused(f"Schema {number} refers to other schemas; only one that is whole is read.", _OK, 0)
    try:
        schema = json.loads(answer["schema"])
        schema_fingerprint(schema)  # Whoever asks compares schemas, and one of a thousand levels cannot be.
        guid = _bytes_of_guid(answer.get("guid"))
        return Registered(int(answer.get("id", schema_id)), schema, int(answer.get("version", 0)), guid)
    except RecursionError:
        number = answer.get("id", schema_id)
        raise RegistryRefused(f"Schema {number} has more levels than can be read.", _OK, 0) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryUnreachable(f"The schema registry's answer holds no schema: {error!r}.") from error


def _bytes_of_guid(text: Any) -> bytes | None:
    return bytes.fromhex(str(text).replace("-", "")) if text else None


def _dashed(guid: bytes) -> str:
    text = guid.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _body(schema: Mapping[str, Any]) -> dict[str, str]:
    return {"schema": json.dumps(schema), "schemaType": "AVRO"}


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")
