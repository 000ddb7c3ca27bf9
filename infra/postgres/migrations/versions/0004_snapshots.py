"""Shards' snapshots, and which code and settings made which stretch."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Make both tables."""
    run_sql_file("0004_snapshots.sql")


def downgrade() -> None:
    """Drop them and what they hold."""
    run_sql_file("0004_snapshots.down.sql")
