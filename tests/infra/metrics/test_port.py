"""The port answers from a thread of its own: that a loop hangs is told while it hangs."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from infra.metrics.health import Health
from infra.metrics.port import MetricsPort, PortTaken
from infra.metrics.registry import Metrics
from infra.metrics.table import METRICS
from streams.engine.flow import Flow
from streams.engine.telling import Teller


@pytest.fixture
def teller() -> Teller:
    return Teller(Metrics("toy", ["risk"]), Health(loop_still_s=0.2), Flow())


@pytest.fixture
def port(teller: Teller) -> Iterator[int]:
    served = MetricsPort(teller.metrics, teller.health, teller.before_scrape)
    served.open("127.0.0.1", 0)
    yield served.port
    served.close()


def _get(port: int, path: str, accept: str = "") -> tuple[int, str, str]:
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept}), timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_a_loop_that_is_blocked_is_told_while_it_is_blocked(teller: Teller, port: int) -> None:
    async def scenario() -> tuple[int, str, int]:
        beating = asyncio.ensure_future(teller.beat())
        await asyncio.sleep(0.3)
        before = await asyncio.to_thread(_get, port, "/livez")
        asking = asyncio.get_running_loop().run_in_executor(None, _asked_within, port, 2.0)
        time.sleep(0.8)  # Nothing on this loop turns now, not even what would answer a probe.
        blocked = await asking
        await asyncio.sleep(0.3)
        after = await asyncio.to_thread(_get, port, "/livez")
        beating.cancel()
        assert before[0] == 200, before
        return blocked[0], json.loads(blocked[2])["reasons"][0], after[0]

    blocked, reason, after = asyncio.run(scenario())
    assert (blocked, after) == (503, 200)
    assert reason.startswith("the event loop has not turned for 0.")


def _asked_within(port: int, limit_s: float) -> tuple[int, str, str]:
    """Ask until the answer is no, but not longer than the limit."""
    limit = time.monotonic() + limit_s
    while (answer := _get(port, "/livez"))[0] == 200 and time.monotonic() < limit:
        time.sleep(0.02)
    return answer


def test_readiness_says_why_not_in_json(teller: Teller, port: int) -> None:
    status, content_type, body = _get(port, "/readyz")
    assert (status, content_type) == (503, "application/json; charset=utf-8")
    answer = json.loads(body)
    assert answer["ok"] is False and len(answer["reasons"]) == 3
    teller.health.dealt = True
    teller.health.database_up = teller.health.broker_up = True
    status, _, body = _get(port, "/readyz")
    assert (status, json.loads(body)["standby"]) == (200, True)
    assert _get(port, "/startupz")[0] == 503
    assert _get(port, "/other")[0] == 404


def test_metrics_are_told_in_the_format_that_is_asked_for(teller: Teller, port: int) -> None:
    teller.build("1.2.3", "abc", "def")
    status, content_type, text = _get(port, "/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert 'tradermind_build_info{code_version="abc",settings_hash="def",version="1.2.3",worker="toy"} 1.0' in text
    assert "_created" not in text, "a second series for each counter, read by nobody"
    assert 'tradermind_ready{worker="toy"} 0.0' in text, "what depends on the moment is worked out when it is asked"
    _, content_type, text = _get(port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text") and text.endswith("# EOF\n")


def test_a_port_that_is_taken_is_one_sentence(teller: Teller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            MetricsPort(teller.metrics, teller.health).open("127.0.0.1", number)
    assert str(refused.value).startswith(f"The metrics cannot be served on 127.0.0.1:{number}: Address already in use")
    assert "--metrics-port" in str(refused.value)


def test_a_name_that_others_give_us_cannot_make_series_without_end(teller: Teller) -> None:
    metrics = Metrics("toy", ["voting"])
    votes = METRICS["tradermind_votes_total"]
    for number in range(1_000):
        metrics.add(votes, 1, f"expert {number}", "up")
    told = {labels["expert"]: value for name, labels, value in metrics.samples() if name == votes.name}
    assert len(told) == 201 and told["other"] == 800.0
    assert sum(told.values()) == 1_000
