"""The order manager: it sends what risk approved, believes the venue and nothing else, and keeps the books."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agents.execution.admission import adopt_approval, take_approval, take_command
from agents.execution.conduct import watch
from agents.execution.control import take_examined, tell_limits
from agents.execution.exposure import exposures, holdings
from agents.execution.reconciliation import take_books, take_outcome
from agents.execution.reconciliation_state import STATE_KEY, ReconciliationState
from agents.execution.reporting import take_report
from agents.execution.state import STATE_TYPES, ExecutionConfig
from agents.execution.timers import take_claim, take_time
from agents.execution.turn import Turn
from agents.execution.valuation import take_mark
from agents.limits.book import LimitBook
from agents.limits.exposure import AccountExposure
from agents.stage import ShardState
from schemas.changes import Examined
from schemas.control import ControlCommand
from schemas.decisions import OrderApproved
from schemas.event import Event, Heartbeat
from schemas.opinions import MarketMark
from schemas.orders import Claimed, VenueReport
from schemas.reconciliation import VenueBooks

NAME: Final = "execution"


class Execution:
    """Orders, positions and ledger of all accounts of one shard.

    An intent (OrderEvent PENDING_NEW) and its SubmitRequested leave in the same step, so that the shell commits the
    one before it performs the other. ``step`` raises BadRecord for a report on an order it does not know.
    """

    name: Final = NAME

    def __init__(self, config: ExecutionConfig) -> None:
        self._config = config

    def state_type(self, key: str) -> type:
        """Return the type kept under a key: account/A, order/ID, instrument/I, finished/MINUTE, or one of a kind."""
        return STATE_TYPES[key.partition("/")[0]]

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take an approval, a mark, a command, a change, a report, a venue's books, a claim or a Heartbeat."""
        turn = Turn(self._config, state, event)
        if isinstance(event, MarketMark):
            take_time(turn, event)
            take_mark(turn, event)
        elif isinstance(event, Heartbeat):
            take_time(turn, event)
        elif isinstance(event, OrderApproved):
            take_approval(turn, event)
        elif isinstance(event, VenueReport):
            take_report(turn, event)
            take_outcome(turn, event.order_id)
        elif isinstance(event, VenueBooks):
            take_books(turn, event)
        elif isinstance(event, ControlCommand):
            take_command(turn, event)
        elif isinstance(event, Claimed):
            take_claim(turn, event)
            tell_limits(turn)
        elif isinstance(event, Examined):
            take_examined(turn, event)
        else:
            raise AssertionError(f"execution does not read {type(event).__name__}")
        watch(turn)
        return state, turn.outputs

    def adopt(self, state: ShardState, approvals: Iterable[OrderApproved]) -> list[str]:
        """Take up orders that were approved after what ``state`` remembers; return the ids of those it did not know.

        The next claim asks the venue about each: what it lists is booked, and what it never had is NOT_SENT.
        """
        return [
            approval.order_id for approval in approvals if adopt_approval(Turn(self._config, state, approval), approval)
        ]

    def reconciliation(self, state: ShardState) -> ReconciliationState | None:
        """Return how far the comparison with the venues is that the last claim began; None before any claim."""
        found: ReconciliationState | None = state.get(STATE_KEY)
        return found

    def limits(self, state: ShardState) -> LimitBook:
        """Return the limits in force, for whoever must not believe anything else."""
        kept: LimitBook | None = state.get("limits")
        return self._config.effective.first if kept is None else kept

    def exposures(self, state: ShardState) -> Mapping[str, AccountExposure]:
        """Return what each account holds and works, for whoever must not believe anything else."""
        return exposures(self._config, state)

    def holdings(self, state: ShardState) -> Mapping[tuple[str, str, str], tuple[int, int]]:
        """Return (account, strategy, instrument) -> (signed quantity, average price) of every open position."""
        return holdings(self._config, state)
