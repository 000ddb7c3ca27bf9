"""Restores: one at a time, resumable, and kept for good."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Make the table."""
    run_sql_file("0007_restores.sql")


def downgrade() -> None:
    """Drop it and what it holds."""
    run_sql_file("0007_restores.down.sql")
