"""Postgres, InfluxDB, the schema registry: do they answer, in which version, and may we do there what we must."""

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Generator, Iterator
from typing import Any, Final

import psycopg

from infra.postgres.migrate import HEAD, current_revision, is_newer
from infra.postgres.restores import why_no_worker_may_start
from infra.registry_client import RegistryClient, RegistryFailed
from infra.settings import Settings, SettingsError
from infra.settings_sections import read_secret
from schemas.schema_table import schema_fingerprint
from streams.cli_schemas import registry_subjects
from streams.doctor.connections import connections_wanted
from streams.doctor.examination import Finding, State, failed, ok, warning

_ANSWER_S: Final = 4
_POSTGRES_LEAST: Final = 15
_SHOWN: Final = 3
_LACKING: Final = """
SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT has_table_privilege(pg_class.oid, 'SELECT')
   OR nspname = 'public' AND relkind IN ('r', 'p') AND relname <> 'alembic_version'
  AND NOT has_table_privilege(pg_class.oid, 'INSERT') ORDER BY 1
"""
_REACH: Final = "Start the database, or correct postgres.dsn and postgres.password_file."


def postgres(settings: Settings) -> Iterator[Finding]:
    """Ask the database of the settings everything that a worker needs of it."""
    try:
        dsn = settings.postgres.conninfo()
    except OSError as error:
        yield failed("postgres", f"postgres.password_file cannot be read: {error.strerror}.", _REACH)
        return
    if dsn is None:
        yield ok("postgres", "postgres.dsn is not set: `demo` and `up` start a database of their own.")
        return
    try:
        with psycopg.connect(dsn, connect_timeout=_ANSWER_S, autocommit=True) as connection:
            yield _server(connection)
            yield from _configuration(connection)
            yield from _connections(connection, settings)
            privileges = _privileges(connection)
            yield privileges
            # Without rights nothing more can be asked.
            asked = privileges.state is not State.FAILED and (yield from _migrations(dsn))
            if asked and (why := why_no_worker_may_start(dsn)) is not None:
                yield failed("postgres state", why, "Do what the sentence says; no worker starts before.")
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        yield failed("postgres", f"The database does not answer: {said}.", _REACH)


def _server(connection: psycopg.Connection[Any]) -> Finding:
    major = connection.info.server_version // 10_000
    said = f"PostgreSQL {major}.{connection.info.server_version % 10_000}, as {connection.info.user}"
    if major < _POSTGRES_LEAST:
        return failed("postgres", f"{said}, is too old.", f"Upgrade it to {_POSTGRES_LEAST} or newer; 18 is tested.")
    return ok("postgres", f"{said}.")


def _configuration(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    name = "postgres settings"
    rows = connection.execute("SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes')")
    lazy = sorted(setting for setting, value in rows.fetchall() if value != "on")
    if lazy:
        yield failed(name, f"{' and '.join(lazy)} off: a power cut loses what was committed.", "Set it on.")
    else:
        yield ok(name, "What is committed is on disk.")


def _connections(connection: psycopg.Connection[Any], settings: Settings) -> Iterator[Finding]:
    row = connection.execute("SELECT setting::int FROM pg_settings WHERE name = 'max_connections'").fetchone()
    try:
        offered, wanted = int(row[0]) if row else 0, connections_wanted(settings)
    except SettingsError:
        return  # Another check tells it.
    said = f"max_connections is {offered}, and the workers of {settings.kafka.instrument_partitions} partitions"
    if offered < wanted:
        yield failed("postgres connections", f"{said} want {wanted}: some would not start.", "Raise it.")
    else:
        yield ok("postgres connections", f"{said} want at most {wanted}.")


def _migrations(dsn: str) -> Generator[Finding, None, bool]:
    """Yield how the schema stands; the return value is whether its tables can be asked about."""
    name, found = "migrations", current_revision(dsn)
    if found == HEAD:
        yield ok(name, f"At {HEAD}, the newest.")
    elif found is not None and is_newer(found):
        yield warning(
            name, f"At {found}, newer than this version knows ({HEAD}).", "Finish the upgrade of the workers."
        )
    else:
        mend = "`tradermind migrate`, as the owner of the database."
        yield failed(name, f"At {found or 'none'}, and this version needs {HEAD}.", mend)
    return found is not None


def _privileges(connection: psycopg.Connection[Any]) -> Finding:
    name = "postgres privileges"
    lacking = [str(row[0]) for row in connection.execute(_LACKING).fetchall()]
    user = connection.info.user
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        said = f"{user} may not read and write {', '.join(lacking[:_SHOWN])}{more}"
        return failed(name, f"{said}.", f"GRANT tradermind_app TO {user};")
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row is not None and row[0]:
        mend = "Let workers be members of tradermind_app, which cannot change the audit."
        return warning(name, f"{user} is a superuser, whom nothing stops from changing the audit.", mend)
    return ok(name, f"{user} may read and write every table.")


def influx(settings: Settings) -> Iterator[Finding]:
    """Ask the InfluxDB of the settings whether points can be written to it."""
    name, given = "influx", settings.influx
    if given.url is None or given.token_file is None:
        yield ok(name, "influx.url is not set: points go to files.")
        return
    try:
        token = read_secret(given.token_file)
    except OSError as error:
        yield failed(name, f"influx.token_file cannot be read: {error.strerror}.", "Put the token there.")
        return
    try:
        status, told = _asked(given.url, "GET", "/health", token)
        if status != http.client.OK:
            yield failed(name, f"{given.url} answers /health with {status}.", "Look at the log of InfluxDB.")
            return
        yield ok(name, f"InfluxDB {told.get('version', 'of an unknown version')} at {given.url}.")
        query = urllib.parse.urlencode({"org": given.org, "bucket": given.bucket})
        # Nothing is written: who may write, and where, is judged before the missing points are.
        status, told = _asked(given.url, "POST", f"/api/v2/write?{query}", token)
    except (OSError, http.client.HTTPException) as error:
        yield failed(name, f"{given.url} does not answer: {error}.", "Start InfluxDB, or correct influx.url.")
        return
    yield _may_write(status, str(told.get("message", "")), given.org, given.bucket)


def _may_write(status: int, message: str, org: str, bucket: str) -> Finding:
    name = "influx bucket"
    if status in (http.client.NO_CONTENT, http.client.BAD_REQUEST):
        return ok(name, f"{org}/{bucket} can be written.")
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        mend = f"Make a token that may write the bucket {bucket}, and put it into influx.token_file."
        return failed(name, f"The token may not write {org}/{bucket} ({status}).", mend)
    if status == http.client.NOT_FOUND:
        mend = f"`influx bucket create --name {bucket} --org {org}`, or correct influx.org and influx.bucket."
        return failed(name, f"There is no {org}/{bucket}: {message}.", mend)
    return failed(name, f"A write is answered with {status}: {message}.", "Look at the log of InfluxDB.")


def _asked(url: str, method: str, path: str, token: str) -> tuple[int, dict[str, Any]]:
    parts = urllib.parse.urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_ANSWER_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=_ANSWER_S)
    try:
        connection.request(method, parts.path.rstrip("/") + path, headers={"Authorization": f"Token {token}"})
        response = connection.getresponse()
        content = response.read(100_000)
    finally:
        connection.close()
    try:
        told = json.loads(content)
    except ValueError:
        told = {}
    return response.status, told if isinstance(told, dict) else {}


def registry(settings: Settings) -> Iterator[Finding]:
    """Ask the registry of the settings whether it has our schemas."""
    name = "schemas"
    if settings.registry.url is None:
        yield ok(name, "registry.url is not set: ids come from the committed table.")
        return
    try:
        client = RegistryClient(settings.registry)
        missing = [
            subject.name
            for subject in registry_subjects()
            if all(
                schema_fingerprint(client.version(subject.name, number).schema) != schema_fingerprint(subject.newest)
                for number in client.versions(subject.name)
            )
        ]
    except (RegistryFailed, OSError) as error:
        yield failed(name, f"{str(error).rstrip('.')}.", "Start the registry, or correct the section registry.")
        return
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        said = f"Not registered in their newest version: {', '.join(missing[:_SHOWN])}{more}"
        yield failed(name, f"{said}.", "`tradermind schemas register`")
    else:
        yield ok(name, f"Every schema is registered at {settings.registry.url}.")
