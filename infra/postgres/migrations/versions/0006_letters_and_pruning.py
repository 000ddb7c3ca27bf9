"""What became of held letters, what sinks passed over, and how far a shard's past was pruned."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Allow the audit's new rows, tell the new statuses, and make the table of what was pruned."""
    run_sql_file("0006_letters_and_pruning.sql")


def downgrade() -> None:
    """Take them back; the audit's rows stay."""
    run_sql_file("0006_letters_and_pruning.down.sql")
