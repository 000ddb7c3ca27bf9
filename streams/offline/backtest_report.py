"""What a backtest came to: every figure from the events of the run."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from schemas.decisions import Decision, OrderDenied
from schemas.event import Event
from schemas.feedback import TradeFeedback
from schemas.orders import AccountMark, ExecType, Fill, OrderEvent
from schemas.routing import is_shadow
from schemas.values import ZERO

_REPORTED: Final = frozenset((Decision, OrderDenied, AccountMark, OrderEvent, Fill, TradeFeedback))


@dataclass(slots=True)
class BacktestReport:
    """Money is in the account's currency; ``max_drawdown`` is a fraction of the peak; costs are fees and slippage."""

    messages: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    denials: dict[str, int] = field(default_factory=dict)
    orders: int = 0
    fills: int = 0
    trades: int = 0
    winning_trades: int = 0
    gross_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    slippage: Decimal = ZERO
    start_equity: dict[str, Decimal] = field(default_factory=dict)
    equity: dict[str, Decimal] = field(default_factory=dict)
    max_drawdown: dict[str, float] = field(default_factory=dict)

    def observe(self, event: Event) -> None:
        """Take note of one event of the run."""
        if type(event) not in _REPORTED:  # Nearly all are market data, and every one passes here.
            return
        if is_shadow(event):
            return
        if isinstance(event, Decision):
            name = event.outcome.value if event.reason is None else f"{event.outcome} {event.reason}"
            self.decisions[name] = self.decisions.get(name, 0) + 1
        elif isinstance(event, OrderDenied):
            for reason in event.reasons:
                self.denials[reason] = self.denials.get(reason, 0) + 1
        elif isinstance(event, AccountMark):
            self._mark(event)
        elif isinstance(event, OrderEvent):
            self.orders += event.exec_type is ExecType.PENDING_NEW
        elif isinstance(event, Fill):
            self.fills += 1 if event.reverses is None else -1
            self.fees += event.fee
            self.slippage += event.slippage
        elif isinstance(event, TradeFeedback):
            self.trades += 1
            self.winning_trades += event.net_pnl > 0
            self.gross_pnl += event.gross_pnl

    def _mark(self, mark: AccountMark) -> None:
        # The first mark of an account comes before its first order: orders need a decision, and that needs a tally.
        self.start_equity.setdefault(mark.account, mark.equity)
        self.equity[mark.account] = mark.equity
        if mark.equity_peak > 0:
            fall = float((mark.equity_peak - mark.equity) / mark.equity_peak)
            self.max_drawdown[mark.account] = max(fall, self.max_drawdown.get(mark.account, 0.0))

    def net_pnl(self) -> dict[str, Decimal]:
        """Return the change of each account's equity over the run: after all costs, open positions at the mid."""
        return {account: equity - self.start_equity[account] for account, equity in self.equity.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs; money as text, exact."""
        return {
            "messages": self.messages,
            "decisions": self.decisions,
            "denials": self.denials,
            "orders": self.orders,
            "fills": self.fills,
            "trades": self.trades,
            "winning_trades": self.winning_trades,
            "gross_pnl": _text(self.gross_pnl),
            "costs": {"fees": _text(self.fees), "slippage": _text(self.slippage)},
            "net_pnl": {account: _text(value) for account, value in self.net_pnl().items()},
            "equity": {account: _text(value) for account, value in self.equity.items()},
            "max_drawdown": {account: round(value, 6) for account, value in self.max_drawdown.items()},
        }


def _text(value: Decimal) -> str:
    return format(value.normalize(), "f")
