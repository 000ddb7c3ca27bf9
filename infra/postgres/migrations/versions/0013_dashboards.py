"""What the dashboards may read: a role of their own, and indexes by time."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0013"
down_revision: str | None = "0012"


def upgrade() -> None:
    """Make the role's grants and the indexes."""
    run_sql_file("0013_dashboards.sql")


def downgrade() -> None:
    """Take them away; the role stays."""
    run_sql_file("0013_dashboards.down.sql")
