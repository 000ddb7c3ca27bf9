"""Changes that two people sign, and what became of them."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    """Make the tables and the columns of commands."""
    run_sql_file("0009_changes.sql")


def downgrade() -> None:
    """Drop them and what they hold."""
    run_sql_file("0009_changes.down.sql")
