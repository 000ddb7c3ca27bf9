"""What the workers keep: checkpoints, journal, outbox, claims."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make the tables."""
    run_sql_file("0001_engine.sql")


def downgrade() -> None:
    """Drop the tables and what they hold."""
    run_sql_file("0001_engine.down.sql")
