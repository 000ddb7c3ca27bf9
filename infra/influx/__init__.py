"""Points to InfluxDB, or to files of line protocol that load into one, without ever slowing the record."""

from infra.influx.files import LineFiles
from infra.influx.server import InfluxServer
from infra.influx.target import PointTarget, Refused, Unwritten
from infra.influx.writer import InfluxWriter, PointCounts

__all__ = ["InfluxServer", "InfluxWriter", "LineFiles", "PointCounts", "PointTarget", "Refused", "Unwritten"]
