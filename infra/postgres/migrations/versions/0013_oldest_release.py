"""Which releases may work on a schema, for a release that is older than it."""

from infra.postgres.migrations.sql_file import run_sql_file

revision: str = "0013"
down_revision: str | None = "0012"


def upgrade() -> None:
    """Make the function that tells."""
    run_sql_file("0013_oldest_release.sql")


def downgrade() -> None:
    """Drop it."""
    run_sql_file("0013_oldest_release.down.sql")
