"""The tape of the steady load: what is played is valid market data of an even rate, and each message can be counted."""

import gzip
import itertools
from collections import Counter
from pathlib import Path

from agents.market.settings import IngestionConfig
from agents.market.stage import Ingestion
from agents.stage import ShardState
from benchmarks.tape import Tape, instruments_of, write_tape
from infra.settings import load_settings
from schemas.event import Heartbeat
from schemas.feed import FeedRecord
from schemas.market import Quality
from streams.composition import compose

_SETTINGS = Path(__file__).resolve().parents[2] / "tradermind.toml"
_RECORDED = (
    '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1000,"T":999,"s":"BTCUSDT","U":90,"u":95,"pu":89,'
    '"b":[["100.00","1.000"]],"a":[["100.10","2.000"]]}}',
    '{"lastUpdateId":97,"E":1001,"T":1001,"bids":[["100.00","1.000"]],"asks":[["100.10","2.000"]]}',
    '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1002,"T":1002,"s":"BTCUSDT","U":96,"u":99,"pu":95,'
    '"b":[["100.00","3.000"]],"a":[]}}',
    '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":99,"s":"BTCUSDT","b":"100.00","B":"3.000",'
    '"a":"100.10","A":"2.000","T":1003,"E":1003}}',
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1004,"T":1004,"s":"BTCUSDT","t":7,"p":"100.10","q":"0.006",'
    '"X":"MARKET","m":false}}',
)
_SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


def _tape(tmp_path: Path, tape: Tape) -> list[Path]:
    recorded = tmp_path / "recorded.gz"
    with gzip.open(recorded, "wt") as file:
        file.writelines(f"{number} {line}\n" for number, line in enumerate(_RECORDED))
    return write_tape(tape, tmp_path / "tape", recorded)


def _records(files: list[Path], tape: Tape) -> tuple[Ingestion, list[FeedRecord]]:
    values = {
        "run.clock": "capture",
        "feed.kind": "capture",
        "feed.paths": [str(file) for file in files],
        "instruments": instruments_of(tape, load_settings(_SETTINGS)),
    }
    run = compose(load_settings(_SETTINGS, values))
    assert run.capture is not None
    stage = Ingestion(IngestionConfig(instruments=run.instruments, stale_after_ns=5 * 10**9, future_limit_ns=5 * 10**9))
    return stage, list(run.capture.records())


def test_a_tape_has_the_messages_asked_for_evenly_spaced_and_none_is_unreadable(tmp_path: Path) -> None:
    tape = Tape(300.0, 2.0, _SYMBOLS)
    _, records = _records(_tape(tmp_path, tape), tape)
    assert len(records) == tape.messages == 600
    assert [record for record in records if record.refused] == []
    times = [record.events[-1].available_at_ns for record in records]
    assert {round((later - sooner) / 1e5) for sooner, later in itertools.pairwise(times)} == {33}
    keys = [record.events[-1].key for record in records[:3]]
    assert sorted(keys) == ["BINANCE_USDM:BNBUSDT", "BINANCE_USDM:BTCUSDT", "BINANCE_USDM:ETHUSDT"]


def test_each_pass_loses_the_book_once_and_mends_it_and_every_message_is_accounted_for(tmp_path: Path) -> None:
    tape = Tape(300.0, 2.0, _SYMBOLS)
    stage, records = _records(_tape(tmp_path, tape), tape)
    state, kinds, quality = ShardState(), Counter[str](), Counter[str]()
    last_ns = records[-1].events[-1].available_at_ns
    # What was refused is told now and then, and the rest of it at the capture's end.
    closing = Heartbeat(key="market.event", event_time_ns=last_ns, available_at_ns=last_ns, clock="closing")
    for events in (*(record.events for record in records), (closing,)):
        for event in events:
            for output in stage.step(state, event)[1]:
                kinds[type(output).__name__] += 1
                if isinstance(output, Quality):
                    quality[output.kind.name] += output.count
    passes = tape.messages // len(_RECORDED)
    assert quality["SYNCHRONISED"] == passes
    assert quality["GAP"] == passes - len(_SYMBOLS)
    published = kinds["Quote"] + kinds["Trade"] + kinds["DepthUpdate"]
    assert published + quality["SYNCHRONISED"] + quality["REFUSED"] == tape.messages
