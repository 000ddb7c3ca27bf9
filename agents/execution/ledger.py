"""The double-entry ledger: where every unit of every asset came from and went to, exact.

An entry is a list of postings whose amounts sum to exactly 0 per asset. Signs: what the account has is positive
(cash, inventory, contracts), what it has earned is negative (income), what it has spent is positive (fees). A spot
trade goes through a trading account, whose balance in money is therefore always the cost of the open position; a
perpetual moves no money but its realised result.
"""

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final

import msgspec

from schemas.market import InstrumentDefined
from schemas.orders import Posting
from schemas.values import ZERO, to_decimal

WIDE: Final = Context(prec=76)
"""The default context rounds to 28 digits, which 18 places of money and a large balance exceed."""

CASH: Final = "cash"
FEES: Final = "expense/fees"
FUNDING: Final = "expense/funding"
REALISED: Final = "income/realised"
CAPITAL: Final = "capital"


class TradeBooking(msgspec.Struct, frozen=True, kw_only=True):
    """What one fill means in money. ``signed_quantity`` in units of 1e-8; ``notional`` has the quantity's sign."""

    signed_quantity: int
    notional: Decimal
    realised_pnl: Decimal
    fee: Decimal
    fee_currency: str


def is_margined(instrument: InstrumentDefined) -> bool:
    """Tell whether a position is a contract (a perpetual pays funding) and not an inventory of the base asset."""
    return instrument.funding_interval_ns > 0


def trade_entry(instrument: InstrumentDefined, strategy: str, trade: TradeBooking) -> tuple[Posting, ...]:
    """Return the entry of one fill."""
    place = f"{strategy}/{instrument.key}"
    currency = instrument.quote_currency
    quantity = to_decimal(trade.signed_quantity)
    margined = is_margined(instrument)
    asset = instrument.key if margined else instrument.base_currency
    lines = [
        ("contracts" if margined else "inventory", place, asset, quantity),
        ("trading", place, asset, -quantity),
    ]
    if margined:
        lines.append((CASH, "", currency, trade.realised_pnl))
    else:
        lines.append((CASH, "", currency, -trade.notional))
        lines.append(("trading", place, currency, WIDE.add(trade.notional, trade.realised_pnl)))
    lines.append((REALISED, place, currency, -trade.realised_pnl))
    lines.append((CASH, "", trade.fee_currency, -trade.fee))
    lines.append((FEES, place, trade.fee_currency, trade.fee))
    return tuple(
        Posting(ledger_account=f"{name}/{where}" if where else name, asset=what, amount=amount)
        for name, where, what, amount in lines
        if amount
    )


def funding_entry(instrument: InstrumentDefined, strategy: str, paid: Decimal) -> tuple[Posting, ...]:
    """Return the entry of a funding payment; ``paid`` is negative when it was received."""
    if not paid:
        return ()
    currency = instrument.quote_currency
    return (
        Posting(ledger_account=CASH, asset=currency, amount=-paid),
        Posting(ledger_account=f"{FUNDING}/{strategy}/{instrument.key}", asset=currency, amount=paid),
    )


def opening_entry(capital: Decimal, currency: str) -> tuple[Posting, ...]:
    """Return the entry that puts an account's capital in."""
    return (
        Posting(ledger_account=CASH, asset=currency, amount=capital),
        Posting(ledger_account=CAPITAL, asset=currency, amount=-capital),
    )


def post(balances: dict[str, Decimal], entry: Iterable[Posting]) -> None:
    """Add an entry to ``balances`` (keyed ``ledger account|asset``); AssertionError if it does not sum to 0."""
    lines = tuple(entry)
    assert not any(imbalance(lines).values()), f"an entry that does not sum to 0: {lines}"
    for line in lines:
        key = f"{line.ledger_account}|{line.asset}"
        balances[key] = WIDE.add(balances.get(key, ZERO), line.amount)


def imbalance(entry: Iterable[Posting]) -> dict[str, Decimal]:
    """Return the sum of the amounts per asset: all 0 for an entry that balances."""
    sums: dict[str, Decimal] = {}
    for line in entry:
        sums[line.asset] = WIDE.add(sums.get(line.asset, ZERO), line.amount)
    return sums


def balance(balances: dict[str, Decimal], ledger_account: str, asset: str) -> Decimal:
    """Return one balance, 0 if nothing was ever posted there."""
    return balances.get(f"{ledger_account}|{asset}", ZERO)
