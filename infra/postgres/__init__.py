"""Postgres: the record of everything. Migrations, projections of events into tables, and the queries people ask."""
