"""What the points of InfluxDB are made of: each event's place in its source, and the numbers that were not kept."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0016"
down_revision: str | None = "0015"


def upgrade() -> None:
    """Add the columns, and the table of every position that there was."""
    run_sql_file("0016_points.sql")


def downgrade() -> None:
    """Take them away."""
    run_sql_file("0016_points.down.sql")
