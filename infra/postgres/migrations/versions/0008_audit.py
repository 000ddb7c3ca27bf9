"""The audit, chained and signed, and the roles that cannot change it."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """Make the tables, their triggers and the roles."""
    run_sql_file("0008_audit.sql")


def downgrade() -> None:
    """Drop it and what it holds."""
    run_sql_file("0008_audit.down.sql")
