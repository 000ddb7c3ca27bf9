"""A server of the v2 write API: what it takes, what it will take later, and what it will never take."""

import re
from collections.abc import Sequence
from typing import Any, Final

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from infra.influx.target import Refused, Unwritten

_REFUSED: Final = frozenset({400, 413, 422})
"""Answers after which the same points would be refused again."""
_PARTLY: Final = re.compile(r"partial write:.* dropped=(\d+)")
"""What it says when it has written all but some, which it counts and does not name."""
_RETRY_AFTER_MAX_S: Final = 300.0


class InfluxServer:
    """A server of the v2 write API. ``token`` is the secret itself, read from its file by the caller."""

    def __init__(self, url: str, token: str, org: str, bucket: str, timeout_ms: int = 5_000) -> None:
        # The client's own retries stay off: what is tried again, and when, is the writer's to say.
        self._client: Any = InfluxDBClient(url=url, token=token, org=org, timeout=timeout_ms)
        self._write_api: Any = self._client.write_api(write_options=SYNCHRONOUS)
        self._org, self._bucket, self._token = org, bucket, token

    def write(self, lines: Sequence[str]) -> None:
        """Send the lines in one request."""
        try:
            self._write_api.write(self._bucket, self._org, "\n".join(lines), write_precision=WritePrecision.NS)
        except ApiException as error:
            # Some servers and proxies say back what they were sent, and this is for the log.
            said = f"{error.status} {error.reason}: {error.body!s}".replace(self._token, "(the token)")[:250]
            if error.status in _REFUSED:
                partly = _PARTLY.search(str(error.body))
                raise Refused(said, None if partly is None else min(int(partly[1]), len(lines))) from error
            raise Unwritten(said, _pause_s(error)) from error
        except (HTTPError, OSError) as error:
            raise Unwritten(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._write_api.close()
        self._client.close()


def _pause_s(error: ApiException) -> float:
    """Return what it asks us to wait, 0 where it does not say; a date is as good as nothing said."""
    headers: Any = error.headers
    said = str(headers.get("Retry-After", "")) if headers is not None else ""
    return min(float(said), _RETRY_AFTER_MAX_S) if said.isascii() and said.isdigit() else 0.0
