"""Which model in force was not asked for a decision, and why."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0015"
down_revision: str | None = "0014"


def upgrade() -> None:
    """Add the columns."""
    run_sql_file("0015_withheld_models.sql")


def downgrade() -> None:
    """Drop them."""
    run_sql_file("0015_withheld_models.down.sql")
