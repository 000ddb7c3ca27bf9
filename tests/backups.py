"""A database set back to a backup, for tests: a copy taken while nobody writes, put in the place of the original."""

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Backup:
    """A copy of a database. ``server`` is the DSN of another database on the same server."""

    def __init__(self, server: str, dsn: str) -> None:
        self._server = server
        self._name = str(conninfo_to_dict(dsn)["dbname"])
        self._copy = f"{self._name}_backup"
        self._run("CREATE DATABASE {copy} TEMPLATE {name}")

    def put_back(self) -> None:
        """Drop the database and put the copy in its place."""
        self._run("DROP DATABASE {name} WITH (FORCE)")
        self._run("ALTER DATABASE {copy} RENAME TO {name}")

    def drop(self) -> None:
        """Drop the copy, if it was not put back."""
        self._run("DROP DATABASE IF EXISTS {copy} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        names = {"name": sql.Identifier(self._name), "copy": sql.Identifier(self._copy)}
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(**names))


def drop_and_make_empty(server: str, dsn: str) -> None:
    """Lose a database: drop it, whoever is connected, and make an empty one of its name."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))


def sibling(server: str, dsn: str, suffix: str) -> str:
    """Make an empty database beside another one, on the same server; return its DSN."""
    name = f"{conninfo_to_dict(dsn)['dbname']}_{suffix}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_conninfo(dsn, dbname=name)
