"""Grafana's dashboards: typed builders, twelve boards, and what checks them where no Grafana can be had.

A dashboard is code here and JSON in deploy/grafana/dashboards. There is no Grafana server where this project is built,
so a board is checked against Grafana's own schema types, version 13, and every query of it is run on a real Prometheus,
PostgreSQL and InfluxDB that a demo has filled. It was never seen in Grafana itself.
"""
