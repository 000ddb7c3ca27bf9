"""What the dashboards may read: a role of their own, and indexes by time."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0014"
down_revision: str | None = "0013"


def upgrade() -> None:
    """Make the role's grants and the indexes."""
    run_sql_file("0014_dashboards.sql")


def downgrade() -> None:
    """Take them away; the role stays."""
    run_sql_file("0014_dashboards.down.sql")
