"""Stops and orders that protect a position."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0010"
down_revision: str | None = "0009"


def upgrade() -> None:
    """Add the columns."""
    run_sql_file("0010_protective_orders.sql")


def downgrade() -> None:
    """Drop them."""
    run_sql_file("0010_protective_orders.down.sql")
