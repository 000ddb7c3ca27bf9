#!/bin/bash
# Makes who may log in, at the first start of the database: what each may do comes from the migrations, by the roles
# tradermind_app and tradermind_grafana. The passwords never stand on a command line.
set -euo pipefail

quoted() { sed "s/'/''/g; s/^/'/; s/\$/'/" "$1"; }

psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<SQL
CREATE ROLE tradermind_app NOLOGIN;
CREATE ROLE tradermind_grafana NOLOGIN;
CREATE ROLE trader_worker LOGIN PASSWORD $(quoted "$WORKER_PASSWORD_FILE") IN ROLE tradermind_app;
CREATE ROLE grafana LOGIN PASSWORD $(quoted "$GRAFANA_PASSWORD_FILE") IN ROLE tradermind_grafana;
SQL
