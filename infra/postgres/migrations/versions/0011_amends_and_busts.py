"""Changes of orders that rest, and fills that a venue took back."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0011"
down_revision: str | None = "0010"


def upgrade() -> None:
    """Add the columns."""
    run_sql_file("0011_amends_and_busts.sql")


def downgrade() -> None:
    """Drop them."""
    run_sql_file("0011_amends_and_busts.down.sql")
