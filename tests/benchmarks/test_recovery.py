"""How kills are summed up: a median of each worker and history, in the order of the flow."""

from benchmarks.recovery import summed_up
from benchmarks.recovery_demo import Recovery


def test_kills_are_summed_up_by_worker_and_history() -> None:
    kills = [
        Recovery("risk", 10.0, 1.0, 1.5, 2.0),
        Recovery("experts", 1.0, 1.0, 1.2, 1.9),
        Recovery("risk", 1.0, 1.0, 1.4, 3.0),
        Recovery("risk", 1.0, 1.2, 1.5, 2.0),
        Recovery("risk", 1.0, 1.1, 1.6, 2.5),
        Recovery("sinks", 1.0, 1.1, None, 4.0),
    ]
    rows = summed_up(kills)
    assert [(row["stage"], row["history_minutes"], row["runs"]) for row in rows] == [
        ("experts", 1.0, 1),
        ("risk", 1.0, 3),
        ("risk", 10.0, 1),
        ("sinks", 1.0, 1),
    ]
    risk = rows[1]
    assert (risk["connected_s"], risk["claimed_s"], risk["first_output_s"]) == (1.1, 1.5, 2.5)
    assert risk["first_output_max_s"] == 3.0
    assert rows[-1]["claimed_s"] is None
