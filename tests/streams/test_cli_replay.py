"""``tradermind replay``, as a user runs it: what it refuses before it looks, and how it shows a difference."""

import json
from pathlib import Path

import pytest
from engine_toys import mark
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from schemas.topics import MARKET_MARK
from streams.cli import app
from streams.cli_replay import report
from streams.offline.difference import Difference, InputPlace, field_differences
from streams.offline.recompute import Recomputed
from streams.offline.start import MadeBy
from streams.offline.verify import StageVerdict

SETTINGS = Path(__file__).resolve().parents[2] / "tradermind.toml"


def replay(folder: Path, *words: str) -> Result:
    """Run the command on a run that has ended: nothing answers where its servers were."""
    overrides = {"kafka.bootstrap": "127.0.0.1:1", "postgres.dsn": "postgresql://nobody@127.0.0.1:1/none"}
    (folder / "run.json").write_text(json.dumps({"overrides": overrides}))
    return CliRunner().invoke(app, ["replay", "--run", str(folder), "--settings", str(SETTINGS), *words])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "run it with --verify"),
        (("--verify", "--from", "noon"), "'noon' is no time"),
        (("--verify", "--from", "2026-11-21T12:00", "--to", "2026-11-21T11:00"), "--from is later than --to"),
        (("--verify", "--stage", "sinks"), "'sinks' is no stage that can be recomputed; these are: ingress.trade"),
        (("--verify", "--stage", "ingestion"), "A live connection cannot be asked again"),
        (("--verify", "--from", "2026-11-21"), "The database does not answer"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence_and_2(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    result = replay(tmp_path, *words)
    assert result.exit_code == 2
    assert sentence in result.output
    assert len(result.output.splitlines()) == 1
    assert "\x1b" not in result.output, "no bar where there is no terminal"


def _verdict() -> StageVerdict:
    """A mark whose middle differs by one bit, and which the log has under another key."""
    recomputed, logged = mark("SIM:[A]", 101, 1, 7), replace(mark("SIM:[A]", 100, 1, 7), key="SIM:[b]")
    fields = tuple(field_differences(recomputed, logged))
    cause = InputPlace("Trade", "e1", "tradermind.market.event.v1/0", 46)
    place = ("experts/tradermind.market.event.v1/0", MARKET_MARK.name, 0, 46 * 65_536)
    difference = Difference(*place, cause, recomputed, logged, 46, fields)
    verdict = StageVerdict("experts")
    made_by = (MadeBy(0, "c0de", "5e77"), MadeBy(9, "", ""))
    verdict.add("tradermind.market.event.v1/0", Recomputed(47, 46, 45, difference, 3, 2, made_by))
    return verdict


def test_both_sides_of_a_difference_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report([_verdict(), StageVerdict("voting")])
    shown = capsys.readouterr().out
    assert (
        "experts/tradermind.market.event.v1/0: output 3014656 on tradermind.market.mark.v1/0 differs in key, mid; it"
        " came of Trade at offset 46 of tradermind.market.event.v1/0." in shown
    )
    rows = [line.split() for line in shown.splitlines()]
    assert ["key", "'SIM:[A]'", "'SIM:[b]'"] in rows
    assert ["mid", "101", "100"] in rows
    assert "made by code c0de with settings 5e77" in shown
    assert "made by code unknown with settings unknown" in shown


def test_programs_are_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(json.dumps(_verdict().as_json()))
    assert (told["stage"], told["inputs"], told["lead_in"], told["matched"]) == ("experts", 47, 3, 45)
    assert told["made_by"][0]["code_version"] == "c0de"
    difference = told["difference"]
    assert difference["input"] == {
        **{"kind": "Trade", "event_id": "e1", "batch": None},
        **{"lane": "tradermind.market.event.v1/0", "offset": 46},
    }
    assert difference["fields"][1] == {"path": "mid", "recomputed": "101", "logged": "100"}
    assert (difference["recomputed"]["mid"], difference["logged"]["mid"]) == (101, 100)


def test_the_smallest_differences_are_seen_wherever_they_lie() -> None:
    def paths(one: object, other: object) -> list[tuple[str, str, str]]:
        return [(found.path, found.recomputed, found.logged) for found in field_differences(one, other)]

    nested = {"observation": {"x": [0.1, 2.0]}, "same": None}
    assert paths(nested, {"observation": {"x": [0.10000000000000002, 2.0, 3.0]}, "same": None}) == [
        ("observation.x[0]", "0.1", "0.10000000000000002"),
        ("observation.x[2]", "absent", "3.0"),
    ]
    assert paths({"zero": 0.0, "gone": 1}, {"zero": -0.0}) == [("zero", "0.0", "-0.0"), ("gone", "1", "absent")]
    assert paths({"n": 1}, {"n": None}) == [("n", "1", "None")]
    assert paths(nested, nested) == []
