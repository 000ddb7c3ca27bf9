"""The InfluxDB that a run or a test starts for itself: its own again after a kill, or missing in one sentence."""

import urllib.request
from pathlib import Path

import pytest

from infra.servers import InfluxMissing, RealInflux, start_influx
from infra.servers.influx import VERSION

pytestmark = pytest.mark.slow


def write(server: RealInflux, line: str) -> None:
    address = f"{server.url}/api/v2/write?org={server.org}&bucket={server.bucket}&precision=ns"
    request = urllib.request.Request(address, line.encode(), {"Authorization": f"Token {server.token}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 204


def values(server: RealInflux) -> list[object]:
    answer = server.ask("GET", f"/query?db={server.bucket}&epoch=ns&q=SELECT+f+FROM+m")
    return [row for series in answer["results"][0].get("series", ()) for row in series["values"]]


def test_it_is_the_version_we_say_and_keeps_its_points_and_token_over_a_kill_and_a_stop(
    real_influx: RealInflux, tmp_path: Path
) -> None:
    assert real_influx.ask("GET", "/health")["version"].lstrip("v") in (VERSION, "dev")
    server = start_influx(tmp_path)
    try:
        write(server, "m f=1 1000000001")
        server.kill()
        server.restart()
        assert values(server) == [[1_000_000_001, 1]]
        server.stop()
        again = start_influx(tmp_path)
        assert again.token == server.token == again.token_file.read_text().strip()
        assert again.token_file.stat().st_mode & 0o077 == 0
        assert values(again) == [[1_000_000_001, 1]]
        again.stop()
    finally:
        server.kill()


def test_without_the_tools_that_build_it_the_reason_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADERMIND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfluxMissing, match=r"^InfluxDB 2\.7\.12 must be built and needs Go .* not on this machine\.$"):
        start_influx(tmp_path / "data")
    assert not (tmp_path / "data").exists()
