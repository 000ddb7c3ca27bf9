"""How long orders took from the tick to the socket: one row per order, for the summary and the dashboards."""

from collections.abc import Sequence

from psycopg import AsyncConnection


async def record_latencies(dsn: str, rows: Sequence[tuple[str, int]]) -> None:
    """Keep (order id, ns from receipt of the tick to the departure of the request). Raises psycopg.Error."""
    async with await AsyncConnection.connect(dsn, connect_timeout=5) as connection, connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO order_latencies (order_id, tick_to_order_ns) VALUES (%s, %s) ON CONFLICT DO NOTHING", rows
        )
