"""Rescales: one at a time, resumable, and kept for good."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Make the table."""
    run_sql_file("0005_rescales.sql")


def downgrade() -> None:
    """Drop it and what it holds."""
    run_sql_file("0005_rescales.down.sql")
