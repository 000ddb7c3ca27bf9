"""What an account is worth at a mark, with the funding that the venue has charged by then."""

from collections.abc import Iterable, Set
from decimal import Decimal

from agents.execution.funding import charge_funding, take_funding
from agents.execution.ledger import CASH, WIDE, is_margined
from agents.execution.positions import PositionState, unrealised_pnl
from agents.execution.turn import Turn
from agents.limits.order_checks import reference_mid
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.orders import AccountMark, Posting, VenueReport
from schemas.values import NS_PER_S, ZERO, money

DAY_NS = 86_400 * NS_PER_S


def take_mark(turn: Turn, mark: MarketMark) -> None:
    """Keep the newest mark of an instrument; on the grid, answer it with one AccountMark per trader."""
    known = turn.instrument(mark.key)
    known.mark = mark
    mid = reference_mid(mark)
    if mid is not None:
        known.mids.add(turn.desk.now_ns, mid, turn.config.effective.move_window_ms(turn.book()))
    if mark.mid is not None:
        known.mid = mark.mid
        if mark.on_grid:
            known.valued = mark
    turn.state[f"instrument/{mark.key}"] = known
    if not mark.on_grid:
        return
    _value(turn, mark, turn.config.traders.get(mark.key, ()))


def take_charge(turn: Turn, report: VenueReport) -> None:
    """Book the funding that a venue reports, on the newest grid mark: its AccountMark is told once more, with it.

    Before the first such mark it waits for it. Raises BadRecord for a report that is not usable.
    """
    take_funding(turn, report)
    valued = turn.instrument(report.instrument).valued
    if valued is None:
        return
    account = turn.account(report.key)
    traders = [
        (name, strategy)
        for name, strategy in turn.config.traders.get(report.instrument, ())
        if name == report.key and turn.position(account, strategy, report.instrument).funding_due
    ]
    _value(turn, valued, traders)


def _value(turn: Turn, mark: MarketMark, traders: Iterable[tuple[str, str]]) -> None:
    """Answer a grid mark for each of these traders, with the funding that is due."""
    charged = [(account, strategy, *charge_funding(turn, mark, (account, strategy))) for account, strategy in traders]
    for name in dict.fromkeys(account for account, *_ in charged):
        _revalue(turn, name, mark)
    for name in dict.fromkeys(account for account, *_ in charged):
        turn.account(name).strategy_pnl |= _gained(turn, name, {who for account, who, *_ in charged if account == name})
    for account, strategy, paid, postings in charged:
        turn.outputs.append(_account_mark(turn, mark, (account, strategy), paid, postings))


def _revalue(turn: Turn, name: str, mark: MarketMark) -> None:
    """Bring equity, its peak and the day's start up to the mark. A day is a UTC day of the run's clock."""
    account = turn.account(name)
    equity = equity_of(turn, name)
    day = mark.grid_time_ns // DAY_NS
    if day != account.day:
        account.day_start_equity = account.equity
        account.strategy_day_start = dict(account.strategy_pnl)
        account.day = day
    account.equity = equity
    account.equity_peak = max(account.equity_peak, equity)
    turn.save_account(name, account)


def equity_of(turn: Turn, name: str) -> Decimal:
    """Return cash plus the value of all positions at their newest known mids (at cost before the first).

    Cash in a currency without a conversion rate (a fee asset) is not counted.
    """
    account, terms = turn.account(name), turn.config.accounts[name]
    equity = ZERO
    for key, amount in account.balances.items():
        ledger_account, _, asset = key.partition("|")
        rate = terms.rate(asset) if ledger_account == CASH else None
        if rate is not None:
            equity = WIDE.add(equity, WIDE.multiply(amount, rate))
    for key, position in account.positions.items():
        if position.quantity == 0:
            continue
        instrument = turn.config.instruments[key.split("|", 1)[1]]
        value = unrealised_pnl(position, turn.instrument(instrument.key).mid, instrument.multiplier)
        if not is_margined(instrument):
            value = WIDE.add(value, position.cost)
        equity = WIDE.add(equity, _converted(turn, name, instrument, value))
    return money(equity)


def _gained(turn: Turn, name: str, strategies: Set[str]) -> dict[str, Decimal]:
    """Return what strategies have gained since the start, in the account's currency: fees and funding taken off."""
    gained = dict.fromkeys(sorted(strategies), ZERO)
    for key, position in turn.account(name).positions.items():
        owner, _, instrument_name = key.partition("|")
        if owner not in gained:
            continue
        instrument = turn.config.instruments[instrument_name]
        value = unrealised_pnl(position, turn.instrument(instrument_name).mid, instrument.multiplier)
        value = WIDE.subtract(WIDE.add(value, position.realised_pnl), WIDE.add(position.fees, position.funding))
        gained[owner] = WIDE.add(gained[owner], _converted(turn, name, instrument, value))
    return {owner: money(value) for owner, value in gained.items()}


def _converted(turn: Turn, name: str, instrument: InstrumentDefined, amount: Decimal) -> Decimal:
    """Return an amount of an instrument's quote currency in the account's."""
    rate = turn.config.accounts[name].rate(instrument.quote_currency)
    assert rate is not None, "the settings refuse an instrument without a rate"
    return amount if rate == 1 else money(WIDE.multiply(amount, rate))


def _account_mark(
    turn: Turn, mark: MarketMark, trader: tuple[str, str], paid: Decimal, postings: tuple[Posting, ...]
) -> AccountMark:
    name, strategy = trader
    account = turn.account(name)
    position = account.positions.get(f"{strategy}|{mark.key}") or PositionState()
    instrument = turn.config.instruments[mark.key]
    open_pnl = unrealised_pnl(position, turn.instrument(mark.key).mid, instrument.multiplier)
    return AccountMark(
        key=name,
        event_time_ns=mark.event_time_ns,
        available_at_ns=turn.at_ns,
        account=name,
        strategy=strategy,
        instrument=mark.key,
        mark_id=mark.event_id,
        grid_time_ns=mark.grid_time_ns,
        mid=mark.mid,
        position=position.quantity,
        working=turn.working(account, strategy, mark.key),
        unrealised_pnl=_converted(turn, name, instrument, open_pnl),
        realised_pnl=_converted(turn, name, instrument, position.realised_pnl),
        fees=_converted(turn, name, instrument, position.fees),
        funding=_converted(turn, name, instrument, paid),
        equity=account.equity,
        equity_peak=account.equity_peak,
        day_pnl=WIDE.subtract(account.equity, account.day_start_equity),
        currency=account.currency,
        postings=postings,
        strategy_day_pnl=WIDE.subtract(account.strategy_pnl[strategy], account.strategy_day_start.get(strategy, ZERO)),
    )
