"""The record of everything that happened, as the sinks write it."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the tables."""
    run_sql_file("0002_records.sql")


def downgrade() -> None:
    """Drop the tables and what they hold."""
    run_sql_file("0002_records.down.sql")
