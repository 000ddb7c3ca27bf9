"""What the signed audit costs a sink, in us a row, on the embedded Postgres: `python -m benchmarks.audit_cost`.

The same batches of order events are written by the same writer with and without the audit, in turn, into databases of
their own; the difference is the audit's. Then every row is verified, and everything is written again, as after a crash.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg
from psycopg.rows import dict_row

from benchmarks.machine import describe
from benchmarks.results import table
from infra.audit_keys import AuditKeys
from infra.postgres.audit_anchors import AnchorFile, read_anchors
from infra.postgres.audit_chain import AuditChain
from infra.postgres.audit_record import ORDERS
from infra.postgres.audit_verify import Verifier
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from infra.servers import EmbeddedPostgres, start_postgres
from schemas.event import Event, derive_id
from schemas.orders import ExecType, OrderEvent, OrderStatus
from schemas.values import OrderType, Side, TimeInForce

_KEYS = AuditKeys({"bench": bytes(range(32))}, "bench")
_ORDER = OrderEvent(
    key="main",
    event_time_ns=1_700_000_000_000_000_000,
    available_at_ns=1_700_000_000_000_000_000,
    cause_id="0" * 32,
    source="execution/0",
    generation=1,
    order_id="o" * 32,
    venue_order_id="1",
    decision_id="d" * 32,
    account="main",
    strategy="committee",
    instrument="SIM:BTCUSD",
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.IOC,
    limit_price=10_000_000_000,
    quantity=100_000_000,
    filled_quantity=0,
    leaves_quantity=100_000_000,
    average_price=None,
    status=OrderStatus.NEW,
    exec_type=ExecType.NEW,
    final=False,
    reason=None,
    deny_reasons=(),
    position_after=0,
    working_after=100_000_000,
    decided_at_ns=1_700_000_000_000_000_000,
)


def main() -> None:
    """Print one row of figures for each size of batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args()
    print(f"what the audit costs a sink; {describe()}\n")
    with tempfile.TemporaryDirectory() as folder:
        server = start_postgres(Path(folder))
        try:
            rows = [_measured(server, Path(folder), given.rows, size) for size in (1, 20, 1000)]
        finally:
            server.stop()
    header = ("rows a batch", "us a row without", "with", "the audit's", "all of it again", "us a row to verify")
    print(table(header, rows))


def _measured(server: EmbeddedPostgres, folder: Path, rows: int, size: int) -> list[object]:
    count = max(size, min(rows, size * 1_000))
    events = [
        msgspec.structs.replace(_ORDER, event_id=derive_id("bench", "execution", number), seq=number)
        for number in range(count)
    ]
    batches = [events[first : first + size] for first in range(0, count, size)]
    plain_s, audited_s = [], []
    for turn in range(3):
        plain_s.append(_written_s(_database(server, f"plain_{size}_{turn}"), batches, None))
        dsn = _database(server, f"audited_{size}_{turn}")
        anchors = folder / f"anchors_{size}_{turn}"
        audited_s.append(_written_s(dsn, batches, AnchorFile(anchors, rows=1_000, interval_s=60)))
    again_s = _written_s(dsn, batches, AnchorFile(anchors, rows=1_000, interval_s=60))
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        report = Verifier(connection, _KEYS, read_anchors(anchors)).verify(ORDERS)
    assert report.finding is None and report.rows == count, report
    plain, audited = (statistics.median(taken) / count * 1e6 for taken in (plain_s, audited_s))
    figures = (plain, audited, audited - plain, again_s / count * 1e6, report.seconds / count * 1e6)
    return [size, *(f"{figure:.1f}" for figure in figures)]


def _database(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    dsn = server.dsn_of(name)
    migrate(dsn)
    return dsn


def _written_s(dsn: str, batches: Sequence[Sequence[Event]], anchors: AnchorFile | None) -> float:
    async def run() -> float:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            projections = Projections(connection, None if anchors is None else AuditChain(_KEYS, anchors))
            began_s = time.perf_counter()
            for batch in batches:
                await projections.write(batch)
            return time.perf_counter() - began_s

    return asyncio.run(run())


if __name__ == "__main__":
    main()
