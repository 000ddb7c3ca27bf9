"""What people do about dead letters, with an audit that nobody changes."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Make the audit and the columns that a replay needs."""
    run_sql_file("0003_dead_letters.sql")


def downgrade() -> None:
    """Drop them and what they hold."""
    run_sql_file("0003_dead_letters.down.sql")
