"""What an expert more is worth to a policy that has never seen it: `python -m benchmarks.set_policy [--pairs 20]`.

The shipped champion trades pairs of tapes of the simulated market that share their seed. In one of each pair a further
expert joins while it runs: an oracle whose votes tell rises from falls with a stated area under the curve, or one who
knows the base rate and nothing else. Weights, calibrators and pool take it in by the voting stage's own functions, and
nothing is trained again. Joining must lower the tally's log-loss and raise net profit when there is something to know,
and cost next to nothing when there is not.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agents.decider.baseline import BaselinePolicy
from agents.decider.policy import Policy
from agents.feedback.scoring import PROBABILITY_FLOOR, log_loss
from agents.sim.tape import Tape
from agents.statistics.intervals import paired_interval
from benchmarks.following import follow
from benchmarks.machine import describe
from benchmarks.results import add_json_option, say, table, write_json
from benchmarks.simulated import SETTINGS, simulated_tape
from infra.models.store import store_of
from infra.settings import load_settings
from schemas.opinions import TallyEntry, VoteTally
from streams.policies import StoredPolicies
from streams.training.pools import pooled_anew
from streams.training.voters import Voter, base_rate_voter, ends_of, noisy_oracle

FIRST_SEED: Final = 501
AUC: Final = 0.8
"""More than the pool of the committee has on these tapes: who knows less than the pool does not make it better."""
JOINS_AT: Final = 120
"""The step at which the expert joins: the committee has found its weights by then."""
SETTLED: Final = 180
"""So many ballots after joining the weights have had time to find out who is who."""
_NATS: Final = -math.log(PROBABILITY_FLOOR)


@dataclass(frozen=True, slots=True)
class Joining:
    """A voter that is there from a step on."""

    voter: Voter
    at: int

    def entry(self, tape: Tape, index: int) -> TallyEntry | None:
        """Return what the voter says, once it is there."""
        return self.voter.entry(tape, index) if index >= self.at else None


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one tape: the tally's mean log-loss after the joining (nats), and the whole net profit (bp).

    ``settled_log_loss`` is that of the ballots ``SETTLED`` and more after the joining.
    """

    log_loss: float
    settled_log_loss: float
    net_bp: float
    turnover: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One seed: without the further expert, with the useful one, with the useless one."""

    seed: int
    without: Run
    useful: Run
    useless: Run


def shipped_champion(settings_file: Path = SETTINGS) -> Policy:
    """Return the champion that comes with the sources. Raises ArtefactRefused when it cannot be trusted."""
    store = store_of(load_settings(settings_file, {}, environment={}))
    return StoredPolicies(store).verified(store.champion("shipped")).policy


def tally_log_loss(tape: Tape, tallies: Sequence[VoteTally], since: int) -> float:
    """Return the pool's mean log-loss in nats over the ballots from a step on that ended; NaN without any."""
    ends = ends_of(tape)
    losses = [
        log_loss((one.p_down, one.p_flat, one.p_up), int(ends.outcomes[index]), PROBABILITY_FLOOR)
        for index, one in enumerate(tallies)
        if index >= since and ends.known[index] < len(tallies)
        if one.p_down is not None and one.p_flat is not None and one.p_up is not None
    ]
    return _NATS * sum(losses) / len(losses) if losses else math.nan


def run_on(tape: Tape, voters: Sequence[Joining], policy: Policy, since: int = JOINS_AT) -> Run:
    """Return what the policy comes to with these voters beside the tape's own; log-loss from a step on."""
    tallies = pooled_anew(tape, voters)
    told = follow(tape.with_tallies(tallies), policy, "").told()
    losses = (tally_log_loss(tape, tallies, first) for first in (since, since + SETTLED))
    return Run(*losses, told["net_bp"], told["turnover"])


def pairs(tapes: Iterable[tuple[int, Tape]], policy: Policy, auc: float = AUC, joins_at: int = JOINS_AT) -> list[Pair]:
    """Return a pair for each seed and its tape."""
    found = []
    for seed, tape in tapes:
        without = run_on(tape, [], policy, joins_at)
        useful = run_on(tape, [Joining(noisy_oracle(auc, seed), joins_at)], policy, joins_at)
        useless = run_on(tape, [Joining(base_rate_voter(), joins_at)], policy, joins_at)
        found.append(Pair(seed, without, useful, useless))
        say(f"seed {seed}: {without.net_bp:.1f} bp alone, {useful.net_bp:.1f} with the oracle, {useless.net_bp:.1f}")
    return found


def judged(found: Sequence[Pair]) -> dict[str, Any]:
    """Return the paired 95 % intervals of what joining changes: log-loss (nats) and net profit (bp), and each in %."""
    base_loss = sum(pair.without.log_loss for pair in found) / len(found)
    base_net = sum(pair.without.net_bp for pair in found) / len(found)
    judgement: dict[str, Any] = {"pairs": len(found), "log_loss": base_loss, "net_bp": base_net}
    for name in ("useful", "useless"):
        runs: list[Run] = [getattr(pair, name) for pair in found]
        loss = paired_interval([run.log_loss - pair.without.log_loss for run, pair in zip(runs, found, strict=True)])
        net = paired_interval([run.net_bp - pair.without.net_bp for run, pair in zip(runs, found, strict=True)])
        settled = [
            (run.settled_log_loss - pair.without.settled_log_loss) / pair.without.settled_log_loss * 100
            for run, pair in zip(runs, found, strict=True)
        ]
        judgement[name] = {
            "log_loss": loss._asdict(),
            "settled_log_loss_percent": paired_interval(settled)._asdict(),
            "net_bp": net._asdict(),
            "log_loss_percent": loss.mean / base_loss * 100,
            "net_percent": net.mean / abs(base_net) * 100 if base_net else None,
        }
    return judgement


def tapes_for(seeds: Iterable[int], seconds: float, fee: float | None) -> Iterable[tuple[int, Tape]]:
    """Yield a tape of the simulated market for each seed, none of which the champion was trained on."""
    for seed in seeds:
        yield seed, simulated_tape("mixed", seed, seconds, fee)


def report(judgement: dict[str, Any], auc: float) -> str:
    """Return the table for people."""
    rows = []
    for name, whom in (("useful", f"oracle, AUC {auc:g}"), ("useless", "base rate")):
        own = judgement[name]
        loss, net = own["log_loss"], own["net_bp"]
        rows.append(
            [
                whom,
                *(f"{loss[part]:+.4f}" for part in ("mean", "low", "high")),
                f"{own['log_loss_percent']:+.2f} %",
                f"{own['settled_log_loss_percent']['mean']:+.2f} %",
                *(f"{net[part]:+.1f}" for part in ("mean", "low", "high")),
                "-" if own["net_percent"] is None else f"{own['net_percent']:+.1f} %",
            ]
        )
    header = (
        "who joins",
        "log-loss, nats",
        "95 % low",
        "high",
        "of it",
        "settled",
        "net, bp",
        "95 % low",
        "high",
        "of it",
    )
    return table(header, rows)


def main() -> None:
    """Print the table for the champion, and for the baseline policy, which reads the pool alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=900.0, help="of the simulated market, each")
    parser.add_argument("--auc", type=float, default=AUC)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="the first of them")
    parser.add_argument("--fee", type=float, help="the taker's, as a fraction (default: the settings')")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(describe())
    seeds = range(arguments.seed, arguments.seed + arguments.pairs)
    tapes = list(tapes_for(seeds, arguments.seconds, arguments.fee))
    result: dict[str, Any] = {"machine": describe(), "arguments": {"pairs": arguments.pairs, "auc": arguments.auc}}
    result["arguments"] |= {
        "seconds": arguments.seconds,
        "first_seed": arguments.seed,
        "joins_at": JOINS_AT,
        "fee": arguments.fee,
    }
    for policy in (shipped_champion(), BaselinePolicy()):
        found = pairs(tapes, policy, arguments.auc)
        judgement = judged(found)
        result[policy.name] = judgement | {"seeds": [asdict(pair) for pair in found]}
        alone = f"alone log-loss {judgement['log_loss']:.4f} nats, net {judgement['net_bp']:.1f} bp"
        print(f"\n{policy.name}, {judgement['pairs']} pairs of {arguments.seconds:g} s; {alone}")
        print(report(judgement, arguments.auc))
    write_json(arguments.json, result)


if __name__ == "__main__":
    main()
