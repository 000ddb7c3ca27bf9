"""The orders that are not over, in the one order in which everybody goes through them."""

from agents.execution.orders import OrderState
from agents.execution.turn import Turn


def open_orders(turn: Turn) -> list[OrderState]:
    """Return the orders that are not final, by account and in the order in which they were made."""
    return [
        turn.state[f"order/{order_id}"]
        for name in sorted(turn.config.accounts)
        if f"account/{name}" in turn.state
        for order_id in turn.state[f"account/{name}"].open_orders
    ]
