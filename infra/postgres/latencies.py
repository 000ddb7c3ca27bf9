"""How long orders took from the tick to the socket: one row per order, for the summary and the dashboards."""

from collections.abc import Sequence

from infra.postgres.session import KeptSession


async def record_latencies(session: KeptSession, rows: Sequence[tuple[str, int]]) -> None:
    """Keep (order id, ns from receipt of the tick to the departure of the request). Raises psycopg.Error."""
    async with (await session.connection()).cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO order_latencies (order_id, tick_to_order_ns) VALUES (%s, %s) ON CONFLICT DO NOTHING", rows
        )
