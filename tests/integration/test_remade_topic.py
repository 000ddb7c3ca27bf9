"""A topic that somebody deleted and made anew under a checkpoint: exit code 2 and one sentence, not silence."""

from pathlib import Path

import pytest
from engine_runs import Feed, ToyRun, eventually, exit_code, fresh_topics, text_of

from infra.kafka import log_ends
from infra.postgres.migrate import migrate
from infra.servers import RealKafka
from schemas.topics import MARKET_MARK


def marks(run: ToyRun) -> int:
    """Return how many marks there are."""
    return log_ends(run.bootstrap, [(MARKET_MARK.name, 0)])[MARKET_MARK.name, 0]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("meanwhile", [20, 150], ids=["shorter than it was", "grown past the checkpoint"])
def test_a_topic_made_anew_under_a_checkpoint_ends_with_2(
    real_kafka: RealKafka, database: str, tmp_path: Path, meanwhile: int
) -> None:
    migrate(database)
    run = ToyRun(real_kafka.bootstrap, database, tmp_path, {}, instances=True)
    with fresh_topics(real_kafka.bootstrap):
        run.start("experts")
        Feed(real_kafka.bootstrap).trades(100)
        eventually("all marks", lambda: marks(run) == 100, run)
        assert run.stop_all() == {"experts": 0}
    with fresh_topics(real_kafka.bootstrap):
        Feed(real_kafka.bootstrap).trades(meanwhile)
        again = run.start("experts")
        assert exit_code(again, 60) == 2
        assert "was deleted and made anew under its checkpoint, so records are missing" in text_of(again)
        assert "Traceback" not in text_of(again)
        assert marks(run) == 0, "nothing was made of records that are not its own"
