"""What Alembic runs around the revisions: our connection, one transaction, one lock inside it."""

from typing import Final

from alembic import context

_LOCK: Final = 7_305_471_203_114_502
"""Any number that no other user of the database locks on."""

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False)
with context.begin_transaction():
    connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    context.run_migrations()
