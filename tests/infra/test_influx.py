"""Points: what an event becomes, that a line says what it should, and what happens while the server is away."""

import http.server
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from every_event import RECORDS, example
from full_disk import full_at
from hypothesis import given
from hypothesis import strategies as st
from money_events import ONE, T0, account_mark, decision, fill, tally

from infra.influx import InfluxServer, InfluxWriter, LineFiles, Unwritten
from infra.influx.document import MADE, UNITS, tables
from infra.influx.points import PointMaker, lines_of
from infra.influx.rebuild import sources
from infra.influx.schema import MEASUREMENTS, WITHOUT_POINTS, Form, field_forms_of, tags_of
from schemas.event import Event
from schemas.market import Quote
from schemas.opinions import FeatureSnapshot, Vote, VoteTally
from schemas.orders import OrderEvent
from schemas.values import Side

TOKEN = "a-token"
WITHOUT_UNIT = (Form.TRUTH, Form.TEXT, Form.WORDS, Form.MAP)


@dataclass
class Parsed:
    """One line of line protocol, taken apart by the format's own rules and not by the writer's code."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, object]
    time_ns: int


def split(text: str, separator: str) -> list[str]:
    """Split at unescaped separators outside double quotes."""
    parts, current, quoted, escaped = [], "", False, False
    for character in text:
        if escaped:
            current, escaped = current + character, False
        elif character == "\\":
            current, escaped = current + character, True
        elif character == '"':
            current, quoted = current + character, not quoted
        elif character == separator and not quoted:
            parts, current = [*parts, current], ""
        else:
            current += character
    return [*parts, current]


def split_head(text: str, separator: str) -> list[str]:
    """The same where quotes mean nothing: in measurement and tags."""
    return re.split(rf"(?<!\\){separator}", text)


def plain(text: str) -> str:
    return re.sub(r"\\([,= \\])", r"\1", text)


def value_of(text: str) -> object:
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    return int(text[:-1]) if text.endswith("i") else float(text)


def parse(line: str) -> Parsed:
    head = split_head(line, " ")[0]
    body, time = split(line[len(head) + 1 :], " ")
    measurement, *tags = split_head(head, ",")
    pairs = [split(item, "=") for item in split(body, ",")]
    return Parsed(
        plain(measurement),
        {plain(key): plain(value) for key, value in (split_head(tag, "=") for tag in tags)},
        {plain(key): value_of(value) for key, value in pairs},
        int(time),
    )


def parsed(event: Event) -> list[Parsed]:
    return [parse(line) for line in lines_of(event)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_event_type_has_points_or_is_listed_as_having_none(record: type[Event]) -> None:
    points = parsed(example(record))
    if record in WITHOUT_POINTS:
        assert points == []
        return
    assert points[0].measurement == MEASUREMENTS[record]
    assert points[0].fields
    assert not set(points[0].tags) & set(points[0].fields)
    assert set(points[0].tags) <= set(tags_of(record))


def test_the_page_says_what_the_points_hold() -> None:
    page = MADE.page.read_text()
    assert page == MADE.put_into(page, tables()), "docs/influx.md is stale: run `make influx-page`"


def test_every_number_of_a_point_comes_from_the_record_and_has_a_unit() -> None:
    made_from = sources()
    assert set(made_from) == set(MEASUREMENTS.values())
    for kind in MEASUREMENTS:
        numbers = {name for name, form in field_forms_of(kind).items() if form not in WITHOUT_UNIT}
        assert numbers <= set(UNITS), kind


def test_what_graphs_ask_for_is_derived_from_the_event() -> None:
    (order,) = parsed(example(OrderEvent, available_at_ns=T0 + 7_000_000, decided_at_ns=T0))
    assert order.fields["since_decided_ms"] == 7.0
    (account,) = parsed(account_mark(equity=Decimal(75), equity_peak=Decimal(100)))
    assert account.fields["drawdown_ratio"] == 0.25
    (lost,) = parsed(account_mark(equity=Decimal(-5), equity_peak=Decimal(0)))
    assert "drawdown_ratio" not in lost.fields


def test_a_quote_becomes_decimals_and_a_missing_side_is_absent() -> None:
    (point,) = parsed(
        example(Quote, bid_price=6_000_012_000_000, bid_quantity=None, ask_price=None, seq=7, key="BINANCE:BTCUSDT")
    )
    assert point.tags == {"venue": "BINANCE", "symbol": "BTCUSDT"}
    assert point.fields["bid_price"] == 60_000.12
    assert "bid_quantity" not in point.fields
    assert "ask_price" not in point.fields


def test_two_fills_of_the_same_moment_are_two_points_and_one_fill_twice_is_one() -> None:
    first = fill(1, Side.BUY, ONE, 100 * ONE, seq=41)
    second = fill(2, Side.BUY, ONE, 101 * ONE, seq=42)
    assert parsed(first)[0].time_ns != parsed(second)[0].time_ns
    assert parsed(first)[0].tags == parsed(second)[0].tags
    assert lines_of(first) == lines_of(first)
    assert abs(parsed(first)[0].time_ns - T0) < 1_000


def test_money_and_ids_are_fields() -> None:
    (point,) = parsed(decision(0.5))
    assert point.tags["strategy"] and point.tags["policy"]
    assert isinstance(point.fields["decision_id"], str)
    assert point.fields["target"] == 0.5


def test_a_tally_also_gives_the_weight_of_each_expert() -> None:
    event = tally(1)
    assert isinstance(event, VoteTally) and event.entries
    weights = [point for point in parsed(event) if point.measurement == "expert_weight"]
    assert {point.tags["expert"] for point in weights} == {item.expert for item in event.entries}


def test_features_keep_their_names_and_nulls_are_left_out() -> None:
    (point,) = parsed(example(FeatureSnapshot, features={"spread": 0.5, "vpin": None, "ofi_1s": float("nan")}))
    assert point.fields["spread"] == 0.5
    assert "vpin" not in point.fields
    assert "ofi_1s" not in point.fields


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
def test_a_foreign_name_cannot_break_out_of_its_tag(name: str) -> None:
    (point,) = parsed(example(Vote, expert=name))
    assert point.tags["expert"] == name.replace("\\", "_")
    assert "ballot_id" in point.fields


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_foreign_text_stays_one_field_whatever_it_holds(text: str) -> None:
    (point,) = parsed(example(Vote, ballot_id=text))
    assert point.fields["ballot_id"] == text.replace("\0", "\ufffd"), "as the record keeps it, which can hold no NUL"


@dataclass
class FakeServer:
    """What a server of the v2 write API was sent, and what it answers."""

    url: str = ""
    bodies: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    retry_after: str | None = None
    refuses: str = ""


@pytest.fixture
def influx() -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status = fake.answers.pop(0) if fake.answers else 204
            if fake.refuses and fake.refuses in body:
                status = 400
            if status == 204:
                fake.bodies.append(body)
            fake.queries.append(self.path)
            fake.tokens.append(self.headers["Authorization"])
            self.send_response(status)
            if fake.retry_after is not None and status != 204:
                self.send_header("Retry-After", fake.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def quotes(count: int) -> list[Event]:
    return [example(Quote, seq=number, available_at_ns=T0 + number * 1_000) for number in range(count)]


def writer_to(fake: FakeServer, **options: int) -> InfluxWriter:
    return InfluxWriter(InfluxServer(fake.url, TOKEN, "org", "bucket"), backoff_s=(0.01,), **options)


def test_the_real_client_sends_all_points_with_token_bucket_and_precision(influx: FakeServer) -> None:
    writer = writer_to(influx)
    writer.offer(quotes(4_500))
    assert writer.flush(20)
    writer.close()
    lines = [line for body in influx.bodies for line in body.split("\n")]
    assert len(lines) == 4_500 == len(set(lines))
    assert {parse(line).measurement for line in lines} == {"quote"}
    assert set(influx.tokens) == {f"Token {TOKEN}"}
    assert all(
        "/api/v2/write?" in query and "bucket=bucket" in query and "precision=ns" in query for query in influx.queries
    )
    assert writer.counts.written == 4_500
    assert writer.counts.dropped == 0


def test_a_server_that_fails_for_a_while_loses_nothing(influx: FakeServer) -> None:
    influx.answers = [503, 429, 401]
    writer = writer_to(influx)
    writer.offer(quotes(10))
    assert writer.flush(20)
    assert writer.counts.retries == 3
    assert writer.counts.written == 10
    assert "401" in writer.counts.last_error
    writer.close()


def test_a_point_that_the_server_refuses_is_lost_alone_and_counted(influx: FakeServer) -> None:
    influx.refuses = "bad-one"
    writer = writer_to(influx)
    bad = example(Vote, ballot_id="bad-one", seq=1)
    writer.offer([*quotes(1_500), bad, *quotes(3_000)[1_500:]])
    assert writer.flush(20)
    writer.offer(quotes(2))
    assert writer.flush(20)
    assert (writer.counts.refused, writer.counts.written) == (1, 3_002)
    written = [line for body in influx.bodies for line in body.split("\n")]
    assert sorted(set(written)) == sorted(line for event in quotes(3_000) for line in lines_of(event))
    assert len(influx.queries) < 50, "it halves, and grows again"
    writer.close()


def test_a_request_that_is_too_large_is_halved(influx: FakeServer) -> None:
    influx.answers = [413, 413]
    writer = writer_to(influx)
    writer.offer(quotes(1_000))
    assert writer.flush(20)
    assert [len(body.split("\n")) for body in influx.bodies][:1] == [250]
    assert (writer.counts.refused, writer.counts.written) == (0, 1_000)
    writer.close()


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_a_pause_gets_it(influx: FakeServer, status: int) -> None:
    influx.answers = [status]
    influx.retry_after = "30"
    writer = writer_to(influx)
    writer.offer(quotes(3))
    assert not writer.flush(0.2)
    assert (writer.counts.retries, writer.counts.away) == (1, True)
    assert len(influx.queries) == 1
    writer.close(timeout_s=0.05)
    assert writer.counts.unwritten_at_end == 3


def test_names_from_outside_can_add_only_so_many_series() -> None:
    maker = PointMaker(tag_values_max=3)
    votes = [example(Vote, expert=f"expert-{n}", evidence={f"e{n}": 1.0}, seq=n) for n in range(50)]
    lines = [parse(line) for _ in range(2) for vote in votes for line in maker.lines_of(Vote, vote)]
    assert {line.tags["expert"] for line in lines} == {"expert-0", "expert-1", "expert-2", "other"}
    assert {name for line in lines for name in line.fields if name.startswith("evidence_")} == {
        "evidence_e0",
        "evidence_e1",
        "evidence_e2",
    }
    assert maker.others == 2 * 2 * 47


def test_whole_books_take_no_room_in_the_queue() -> None:
    writer = InfluxWriter(Gate(), queue_events=100, backoff_s=(30.0,))
    writer.offer([example(record) for record in WITHOUT_POINTS for _ in range(100)])
    assert writer.counts.queued == 0
    writer.offer(quotes(100))
    assert (writer.counts.queued, writer.counts.dropped) == (100, 0)
    writer.close(timeout_s=0.05)


@dataclass
class Gate:
    """A target that takes nothing until it is opened."""

    opened: bool = False
    lines: list[str] = field(default_factory=list)
    closed: bool = False

    def write(self, lines: Sequence[str]) -> None:
        if not self.opened:
            raise Unwritten("closed")
        self.lines.extend(lines)

    def close(self) -> None:
        self.closed = True


def test_while_the_server_is_away_offering_never_waits_and_the_oldest_make_way() -> None:
    gate = Gate()
    writer = InfluxWriter(gate, queue_events=100, backoff_s=(0.01,))
    events = quotes(5_000)
    for start in range(0, 5_000, 50):
        writer.offer(events[start : start + 50])
    assert not writer.flush(0.05)
    gate.opened = True
    assert writer.flush(20)
    writer.close()
    counts = writer.counts
    assert counts.dropped > 0
    assert counts.written + counts.dropped == 5_000
    newest = [line for event in events[-100:] for line in lines_of(event)]
    assert gate.lines[-100:] == newest
    assert gate.closed


def test_closing_while_the_server_is_away_ends_and_counts_what_is_lost() -> None:
    writer = InfluxWriter(Gate(), backoff_s=(30.0,))
    writer.offer(quotes(7))
    writer.close(timeout_s=0.05)
    assert (writer.counts.unwritten_at_end, writer.counts.dropped, writer.counts.written) == (7, 0, 0)


def test_closing_while_a_request_hangs_is_bounded_and_writes_nothing_twice() -> None:
    hanging, entered = threading.Event(), threading.Event()

    @dataclass
    class Hanging:
        closed: bool = False

        def write(self, lines: Sequence[str]) -> None:
            entered.set()
            hanging.wait(60)
            raise Unwritten("timed out")

        def close(self) -> None:
            self.closed = True

    target = Hanging()
    writer = InfluxWriter(target, queue_events=5_000)
    writer.offer(quotes(5_000))
    assert entered.wait(20)
    threading.Timer(0.3, hanging.set).start()
    writer.close(timeout_s=0.05)
    counts = writer.counts
    assert (counts.written, counts.unwritten_at_end, counts.queued) == (0, 5_000, 0)
    assert target.closed


def test_what_is_no_absence_of_the_server_comes_back_to_whoever_offers() -> None:
    class Unknown(Event, frozen=True, kw_only=True, gc=False):
        """A type that nobody knows."""

    writer = InfluxWriter(Gate(opened=True))
    writer.offer([Unknown(key="a", event_time_ns=1, available_at_ns=1)])
    writer.flush(20)
    with pytest.raises(KeyError):
        writer.offer([])
    writer.close()


def test_files_hold_one_measurement_each_and_load_as_they_are(tmp_path: Path) -> None:
    writer = InfluxWriter(LineFiles(tmp_path / "influx", bytes_max=2_000))
    for start in range(0, 60, 10):
        writer.offer([*quotes(60)[start : start + 10], tally(start)])
        assert writer.flush(20)
    writer.close()
    names = sorted(path.name for path in (tmp_path / "influx").iterdir())
    assert {"quote-000.lp", "quote-001.lp", "tally-000.lp", "expert_weight-000.lp"} <= set(names)
    for path in (tmp_path / "influx").iterdir():
        lines = path.read_text().splitlines()
        assert {parse(line).measurement for line in lines} == {path.name.rpartition("-")[0]}
    written = [
        line for path in sorted((tmp_path / "influx").glob("quote-*.lp")) for line in path.read_text().splitlines()
    ]
    assert written == [line for event in quotes(60) for line in lines_of(event)]


def test_a_second_process_never_writes_into_the_files_of_the_first(tmp_path: Path) -> None:
    first, second = LineFiles(tmp_path), LineFiles(tmp_path)
    first.write(["a f=1 1"])
    second.write(["a f=2 2"])
    first.write(["a f=3 3"])
    first.close()
    second.close()
    assert (tmp_path / "a-000.lp").read_text() == "a f=1 1\na f=3 3\n"
    assert (tmp_path / "a-001.lp").read_text() == "a f=2 2\n"


def test_on_a_full_disk_no_line_is_torn_and_none_is_there_twice(tmp_path: Path) -> None:
    files = LineFiles(tmp_path)
    files.write(["a f=1 1", "b f=1 1"])
    with full_at(20):
        for _ in range(3):
            with pytest.raises(Unwritten, match="too large"):
                files.write(["a f=2 2", "b f=2 2", "b f=3 3"])
        assert (tmp_path / "a-000.lp").read_text() == "a f=1 1\n"
        assert (tmp_path / "b-000.lp").read_text() == "b f=1 1\n"
    files.write(["a f=2 2", "b f=2 2", "b f=3 3"])
    files.close()
    assert (tmp_path / "a-000.lp").read_text() == "a f=1 1\na f=2 2\n"
    assert (tmp_path / "b-000.lp").read_text() == "b f=1 1\nb f=2 2\nb f=3 3\n"


def test_what_a_full_disk_costs_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = quotes(3_000)
    lines = [line for event in events for line in lines_of(event)]
    with full_at(sum(len(line) + 1 for line in lines[:10])):
        writer = InfluxWriter(LineFiles(tmp_path), queue_events=100, backoff_s=(0.01,))
        for start in range(0, 3_000, 50):
            writer.offer(events[start : start + 50])
        assert not writer.flush(0.05)
    assert writer.flush(20)
    counts = writer.counts
    writer.close()
    written = [line for path in sorted(tmp_path.iterdir()) for line in path.read_text().splitlines()]
    assert counts.dropped > 2_000 and counts.written + counts.dropped == 3_000
    assert len(written) == len(set(written)) == counts.written
    assert set(written) <= set(lines)
    assert [record.message.partition(":")[0].partition(";")[0] for record in caplog.records] == [
        "metrics are dropped, the oldest first",
        "metrics are written again",
    ]
