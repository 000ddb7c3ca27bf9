"""Releases of models as commands, and artefacts that were refused."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0012"
down_revision: str | None = "0011"


def upgrade() -> None:
    """Add the columns and the table."""
    run_sql_file("0012_models.sql")


def downgrade() -> None:
    """Drop them."""
    run_sql_file("0012_models.down.sql")
