"""Runs one SQL file of a revision, in Alembic's transaction."""

from pathlib import Path

from alembic import op


def run_sql_file(name: str) -> None:
    """Execute every statement of ``name``, a file beside this one, as it stands: ``%`` means itself."""
    content = (Path(__file__).parent / name).read_text(encoding="utf-8")
    driver_connection = op.get_bind().connection.driver_connection
    assert driver_connection is not None, "Alembic runs on a live connection"
    with driver_connection.cursor() as cursor:
        cursor.execute(content)
