"""Funding as the venue charges it: its word on the account's sum, shared among the strategies and booked.

A venue charges an account for its net position in a contract; we split that by the strategies' own positions, so that
one that is long pays one that is short. A report tells the sum since the beginning, and what is due is its difference
from what is booked: a report that was missed is made good by the next, and one that comes twice changes nothing.
"""

from decimal import Decimal

from agents.execution.ledger import WIDE, funding_entry, post
from agents.execution.positions import PositionState
from agents.execution.state import AccountState
from agents.execution.turn import Turn
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.opinions import MarketMark
from schemas.orders import Posting, VenueReport
from schemas.values import MONEY_QUANTUM, ZERO


def take_funding(turn: Turn, report: VenueReport) -> None:
    """Note what is newly due. Raises BadRecord for a report that is incomplete, or on what nobody here trades."""
    traders = [strategy for name, strategy in turn.config.traders.get(report.instrument, ()) if name == report.key]
    if not traders or report.funding_total is None or report.order_id:
        detail = f"a FUNDING report on {report.instrument} needs an account that trades it, a total, and no order"
        raise BadRecord(DeadLetterReason.INVALID_VALUE, detail)
    account = turn.account(report.key)
    if report.event_time_ns <= account.funding_as_of_ns.get(report.instrument, -1):
        return
    account.funding_as_of_ns[report.instrument] = report.event_time_ns
    due = WIDE.subtract(report.funding_total, _told(account, report.instrument))
    positions = [turn.position(account, strategy, report.instrument) for strategy in traders]
    for position, share in zip(positions, shares(due, [position.quantity for position in positions]), strict=True):
        position.funding_due = WIDE.add(position.funding_due, share)
    turn.save_account(report.key, account)


def shares(due: Decimal, quantities: list[int]) -> list[Decimal]:
    """Return how ``due`` is split by signed quantities; exact in sum: what rounding leaves goes to the largest.

    With a net of 0 (a fill came between the charge and its report) it is the largest holder's whole.
    """
    net = sum(quantities)
    split = [_share(due, quantity, net) if net else ZERO for quantity in quantities]
    largest = max(range(len(quantities)), key=lambda place: abs(quantities[place]))
    for amount in split:
        due = WIDE.subtract(due, amount)
    split[largest] = WIDE.add(split[largest], due)
    return split


def charge_funding(turn: Turn, mark: MarketMark, trader: tuple[str, str]) -> tuple[Decimal, tuple[Posting, ...]]:
    """Book what is due of one (account, strategy), valued at a grid mark; without a mid it waits for the next."""
    name, strategy = trader
    account: AccountState | None = turn.state.get(f"account/{name}")
    position = account.positions.get(f"{strategy}|{mark.key}") if account is not None else None
    if account is None or position is None or not position.funding_due or mark.mid is None:
        return ZERO, ()
    paid = position.funding_due
    postings = funding_entry(turn.config.instruments[mark.key], strategy, paid)
    post(account.balances, postings)
    position.funding = WIDE.add(position.funding, paid)
    position.funding_due = ZERO
    turn.save_account(name, account)
    return paid, postings


def _told(account: AccountState, instrument: str) -> Decimal:
    total = ZERO
    for key, position in account.positions.items():
        if key.partition("|")[2] == instrument:
            total = WIDE.add(total, _known(position))
    return total


def _known(position: PositionState) -> Decimal:
    return WIDE.add(position.funding, position.funding_due)


def _share(due: Decimal, quantity: int, net: int) -> Decimal:
    return WIDE.divide(WIDE.multiply(due, Decimal(quantity)), Decimal(net)).quantize(MONEY_QUANTUM, context=WIDE)
