"""Making a backup while the platform works: a dump and what its manifest counts are of one snapshot of the database.

Nobody waits for it but who changes tables: a dump holds each of them against that. The one who does so while the
platform works is the sink that makes room for a new day of market data, so that room is made before.
"""

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg import AsyncConnection, Connection, IsolationLevel, sql

from infra.postgres.backups import (
    ANCHORS,
    DUMP,
    FORMAT,
    MANIFEST,
    PART,
    Backup,
    BackupFailed,
    Manifest,
    ShardMark,
    describe,
    name_of,
    now_utc,
    only_one,
    read_backup,
    remove_older,
)
from infra.postgres.programs import program, run_program
from infra.postgres.projections import make_market_days

_TABLES: Final = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    " AND NOT relispartition ORDER BY relname"
)
_ROLES: Final = (
    "SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl) WHERE relnamespace ="
    " 'public'::regnamespace AND grantee <> 0 AND grantee <> relowner UNION SELECT DISTINCT grantee::regrole::text"
    " FROM pg_proc, aclexplode(proacl) WHERE pronamespace = 'public'::regnamespace AND grantee <> 0"
    " AND grantee <> proowner UNION SELECT DISTINCT grantee::regrole::text FROM pg_namespace, aclexplode(nspacl)"
    " WHERE nspname = 'public' AND grantee <> 0 AND grantee <> nspowner AND grantee::regrole::text !~ '^\"?pg_'"
)


class _Offsets(msgspec.Struct):
    """The part of a checkpoint that a manifest tells of."""

    next_offsets: dict[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOrder:
    """What is to be backed up, and where to. ``anchors`` is the file of the audit's anchors, if there is one."""

    dsn: str
    directory: Path
    keep: int
    code_version: str
    platform: str
    anchors: Path | None = None


def make_backup(order: BackupOrder) -> tuple[Backup, list[str]]:
    """Make a backup, then remove those that are too many; return it and the names of what was removed.

    A backup that fails or is killed leaves a ``.part``, which no command takes for a backup. Raises BackupFailed,
    ServerFailed, psycopg.Error and OSError.
    """
    asyncio.run(_make_room(order.dsn))
    with only_one(order.directory):
        started = now_utc()
        folder = order.directory / name_of(started)
        if folder.exists():
            raise BackupFailed(f"There is a backup of this second already: {folder}.")
        part = folder.with_name(folder.name + PART)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        with psycopg.connect(order.dsn, connect_timeout=5, application_name="tradermind backup") as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            snapshot = _one(connection, "SELECT pg_export_snapshot()")
            counted = _counted(connection)
            arguments = ("--format=custom", "-Z1", "--no-owner", f"--snapshot={snapshot}", f"--file={part / DUMP}")
            run_program("pg_dump", arguments, order.dsn, order.directory / "pg_dump.log")
        if order.anchors is not None and order.anchors.is_file():
            whole, end, _ = order.anchors.read_bytes().rpartition(b"\n")  # The sink may be writing a line just now.
            (part / ANCHORS).write_bytes(whole + end)
        for file in part.iterdir():
            file.chmod(0o600)
        manifest = Manifest(
            format=FORMAT,
            started_at=started,
            finished_at=now_utc(),
            dumped_with=_version_of("pg_dump"),
            code_version=order.code_version,
            platform=order.platform,
            files=[describe(file) for file in sorted(part.iterdir())],
            **counted,
        )
        (part / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1))
        part.rename(folder)
        return read_backup(folder), remove_older(order.directory, order.keep)


async def _make_room(dsn: str) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        found = await connection.execute("SELECT to_regclass('market_data') IS NOT NULL")
        there = await found.fetchone()
        if there is None or not there[0]:
            raise BackupFailed("This database has no record of ours to back up: `tradermind migrate` would make it.")
        await make_market_days(connection, days=2)


def _counted(connection: Connection[Any]) -> dict[str, Any]:
    """Return what the manifest says of the database, as this session's snapshot has it."""
    rows = {
        str(name): int(_one(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))))
        for (name,) in connection.execute(_TABLES).fetchall()
    }
    shards = connection.execute("SELECT stage, shard, generation, epoch, batch, progress, cluster_id FROM shard")
    marks: dict[str, ShardMark] = {}
    clusters: set[str] = set()
    for stage, shard, generation, epoch, batch, progress, cluster in shards.fetchall():
        offsets = msgspec.msgpack.decode(progress, type=_Offsets) if progress else _Offsets()
        marks[f"{stage}/{shard}"] = ShardMark(int(generation), int(epoch), int(batch), offsets.next_offsets)
        clusters.add(str(cluster))
    heads = connection.execute("SELECT stream, ordinal FROM audit_heads ORDER BY stream").fetchall()
    return {
        "revision": str(_one(connection, "SELECT version_num FROM alembic_version")),
        "clusters": sorted(clusters - {""}),
        "shards": marks,
        "rows": rows,
        "audit": {str(stream): int(ordinal) for stream, ordinal in heads},
        "roles": sorted(str(role) for (role,) in connection.execute(_ROLES).fetchall()),
        "database_bytes": int(_one(connection, "SELECT pg_database_size(current_database())")),
        "server": str(_one(connection, "SHOW server_version")),
    }


def _one(connection: Connection[Any], query: str | sql.Composed) -> Any:
    row = connection.execute(query.encode() if isinstance(query, str) else query).fetchone()
    assert row is not None, "each of these questions has one answer"
    return row[0]


def _version_of(name: str) -> str:
    told = subprocess.run([str(program(name)), "--version"], capture_output=True, text=True, check=True, timeout=30)
    return told.stdout.strip()
