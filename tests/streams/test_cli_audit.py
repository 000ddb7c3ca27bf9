"""The audit's commands, run as a user runs them: what they say, and how they end."""

import json
from pathlib import Path

import psycopg
import pytest
from audit_stories import anchor_file, order_events, stored, write
from every_event import example
from typer.testing import CliRunner, Result

from infra.audit_keys import add_key, load_keys
from infra.postgres.audit_chain import audit_chain
from infra.postgres.migrate import migrate
from infra.settings import SettingsError
from infra.settings_audit import AuditSettings
from schemas.decisions import Decision
from schemas.market import Quote
from streams.cli_audit import app

pytestmark = pytest.mark.embedded
RUNNER = CliRunner()
LONG_AGO_NS = 1_700_000_000 * 10**9


@pytest.fixture
def audit(database: str, tmp_path: Path) -> tuple[str, Path]:
    """A database with an audit of five orders and a decision, and the folder of its keys and anchors."""
    migrate(database)
    keys = add_key(tmp_path / "keys", "a")
    write(database, [*order_events(5), example(Decision)], keys=keys, anchors=anchor_file(tmp_path))
    return database, tmp_path


def ask(audit: tuple[str, Path], *arguments: str, anchors: bool = True) -> Result:
    dsn, folder = audit
    options = ["--dsn", dsn]
    if arguments[0] in ("verify", "reseal"):
        options += ["--keys", str(folder / "keys")]
    if arguments[0] == "verify" and anchors:
        options += ["--anchors", str(folder / "audit.anchors")]
    return RUNNER.invoke(app, [*arguments, *options], env={"COLUMNS": "200"})


def change(audit: tuple[str, Path], *statements: str) -> None:
    with psycopg.connect(audit[0]) as owner:
        owner.execute("SET tradermind.audit_maintenance = 'on'")
        for statement in statements:
            owner.execute(statement.encode())


def test_a_sound_audit_says_so_and_ends_with_0(audit: tuple[str, Path]) -> None:
    result = ask(audit, "verify")
    assert result.exit_code == 0, result.output
    assert "orders: sound, 5 rows, 1 anchors met" in result.stdout
    assert "decisions: sound, 1 rows" in result.stdout and "commands: sound, 0 rows" in result.stdout
    content = json.loads(ask(audit, "verify", "--stream", "orders", "--json").stdout)
    assert (content["sound"], content["anchored"], content["forged_anchor_line"]) == (True, True, None)
    assert [(item["stream"], item["rows"], item["newest"]) for item in content["streams"]] == [("orders", 5, 5)]


def test_an_edited_row_is_named_with_its_kind_and_ends_with_1(audit: tuple[str, Path]) -> None:
    change(audit, "UPDATE audit_rows SET content = content || ' ' WHERE stream = 'orders' AND ordinal = 3")
    result = ask(audit, "verify")
    assert result.exit_code == 1
    assert "orders: EDITED at row 3" in result.stdout and "decisions: sound" in result.stdout
    finding = json.loads(ask(audit, "verify", "--json").stdout)["streams"][2]["finding"]
    assert (finding["kind"], finding["ordinal"], finding["event_id"]) == ("EDITED", 3, f"{3:032x}")
    assert ask(audit, "verify", "--stream", "decisions").exit_code == 0


def test_a_stream_that_was_emptied_with_its_head_is_found_by_the_anchors_alone(audit: tuple[str, Path]) -> None:
    change(audit, "DELETE FROM audit_rows WHERE stream = 'orders'", "DELETE FROM audit_heads WHERE stream = 'orders'")
    blind = ask(audit, "verify", anchors=False)
    assert blind.exit_code == 0 and "Without --anchors" in blind.stderr
    result = ask(audit, "verify")
    assert result.exit_code == 1 and "orders: TRUNCATED at row 1" in result.stdout


def test_a_forged_anchor_is_no_sound_audit(audit: tuple[str, Path]) -> None:
    file = audit[1] / "audit.anchors"
    file.write_bytes(file.read_bytes() + file.read_bytes().replace(b'"ordinal":5', b'"ordinal":2'))
    result = ask(audit, "verify", "--stream", "decisions")
    assert result.exit_code == 1 and "was not sealed by any of these keys" in result.stdout


def test_what_cannot_be_verified_ends_with_2_and_one_sentence(audit: tuple[str, Path], tmp_path: Path) -> None:
    dsn, folder = audit
    for options, said in (
        (["verify", "--dsn", dsn, "--keys", str(folder / "none")], "new-key"),
        (["verify", "--dsn", dsn, "--keys", str(folder / "keys"), "--anchors", str(folder / "none")], "cannot be read"),
        (["verify", "--dsn", dsn, "--keys", str(folder / "keys"), "--stream", "fills"], "is no stream"),
        (["verify", "--dsn", "host=127.0.0.1 port=1", "--keys", str(folder / "keys")], "cannot be reached"),
        (["verify", "--run", str(tmp_path)], "no run in"),
    ):
        result = RUNNER.invoke(app, options)
        assert result.exit_code == 2, (options, result.output)
        assert said in result.stderr and result.stderr.count("\n") == 1


def test_show_prints_rows_and_as_json_what_was_signed(audit: tuple[str, Path]) -> None:
    shown = ask(audit, "show", "--stream", "orders", "--from", "2", "--to", "3")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [["2", "OrderEvent"], ["3", "OrderEvent"]]
    assert all(line.startswith('    {"key":') for line in lines[1::2])
    rows = json.loads(ask(audit, "show", "--stream", "orders", "--from", "5", "--json").stdout)
    assert [row["ordinal"] for row in rows] == [5]
    assert rows[0]["content"]["event_id"] == f"{5:032x}"
    assert rows[0]["mac"] == stored(audit[0])[4].mac.hex()
    nothing = ask(audit, "show", "--stream", "orders", "--from", "6")
    assert nothing.exit_code == 1 and "no such row" in nothing.stderr


def test_a_changed_stream_is_gone_on_with_by_a_person_and_says_so(audit: tuple[str, Path]) -> None:
    refused = ask(audit, "reseal", "--stream", "orders", "--reason", "why not")
    assert refused.exit_code == 1 and "is sound" in refused.stderr
    change(audit, "DELETE FROM audit_rows WHERE stream = 'orders' AND ordinal = 2")
    done = ask(audit, "reseal", "--stream", "orders", "--reason", "the intruder is gone", "--author", "ann")
    assert done.exit_code == 0 and "row 6" in done.stdout
    (row,) = json.loads(ask(audit, "show", "--stream", "orders", "--from", "6", "--json").stdout)
    assert (row["kind"], row["content"]["author"], row["content"]["finding"]["kind"]) == ("Resealed", "ann", "DELETED")
    write(audit[0], order_events(7), keys=load_keys(audit[1] / "keys"))
    assert ask(audit, "verify", "--stream", "orders").exit_code == 1, "what was found stays found"
    assert ask(audit, "verify", "--stream", "orders", "--from", "6").exit_code == 0


def test_new_key_makes_a_file_and_adds_to_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert RUNNER.invoke(app, ["new-key", str(file), "--id", "2026"]).exit_code == 0
    added = RUNNER.invoke(app, ["new-key", str(file)])
    assert added.exit_code == 0 and "holds 2 keys" in added.stdout
    assert next(iter(load_keys(file).by_id)) == "2026"
    again = RUNNER.invoke(app, ["new-key", str(file), "--id", "2026"])
    assert again.exit_code == 2 and again.stderr.count("\n") == 1


def test_retention_says_what_is_past_and_drops_only_days_of_the_market(audit: tuple[str, Path]) -> None:
    old = example(Quote, event_id="old", available_at_ns=LONG_AGO_NS)
    write(audit[0], [old], keys=load_keys(audit[1] / "keys"))

    def rows_of(content: dict[str, list[dict[str, int]]]) -> dict[object, int]:
        return {item["what"]: item["rows"] for item in content["past"]}

    tried = json.loads(ask(audit, "retention", "--dry-run", "--json").stdout)
    assert (rows_of(tried)["market_data"], tried["dropped"]) == (1, [])
    done = ask(audit, "retention")
    assert done.exit_code == 0 and "Dropped: market_data_20231114" in done.stdout
    after = json.loads(ask(audit, "retention", "--dry-run", "--json").stdout)
    assert rows_of(after)["market_data"] == 0 and rows_of(after)["order_events"] == rows_of(tried)["order_events"]
    assert len(stored(audit[0])) == 5


def test_sinks_without_a_key_do_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"audit\.key_file is missing"):
        audit_chain(AuditSettings())
    add_key(tmp_path / "keys", "a")
    nowhere = AuditSettings(key_file=tmp_path / "keys", anchor_file=tmp_path / "none" / "anchors")
    with pytest.raises(SettingsError, match="cannot be written"):
        audit_chain(nowhere)
