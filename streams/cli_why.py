"""The chain of one decision for a person to read: features, votes, tally, decision, checks, order, fills, feedback."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from schemas.values import NS_PER_S
from streams.cli_tables import shown, table_of

Chain = Mapping[str, Any]
_EVIDENCE_SHOWN: Final = 4


def print_chain(chain: Chain, console: Console) -> None:
    """Print the whole chain, a part that the record does not hold as a sentence that says so."""
    for heading, parts in (
        ("features", _features(chain)),
        ("votes and weights", _votes(chain)),
        ("tally", _tally(chain)),
        ("decision", _decision(chain)),
        ("risk checks", _verdicts(chain)),
        ("order", _orders(chain)),
        ("fills", _fills(chain)),
        ("feedback", _feedback(chain)),
    ):
        console.print(Rule(Text(heading, style="bold"), align="left", style="dim"))
        for part in parts:
            console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _said(*parts: str) -> Text:
    return Text(", ".join(part for part in parts if part))


def _features(chain: Chain) -> Iterator[RenderableType]:
    snapshot = chain["snapshot"]
    if snapshot is None:
        yield Text("The snapshot is not in the record.")
        return
    book = "book synchronised" if snapshot["synchronised"] else "book not synchronised"
    yield _said(
        f"{snapshot['instrument']} at {shown('time', snapshot['time'])}", f"mid {shown('mid', snapshot['mid'])}", book
    )
    rows = [{"feature": name, "value": value} for name, value in sorted(snapshot["features"].items())]
    yield table_of(rows, ("feature", "value"))


def _votes(chain: Chain) -> Iterator[RenderableType]:
    tally = chain["tally"]
    entries = tally["entries"] if tally else []
    counted = {entry["expert"] for entry in entries}
    late = [
        vote | {"weight": None, "skill": None, "late": True} for vote in chain["votes"] if vote["expert"] not in counted
    ]
    rows = [_vote_row(entry) for entry in (*entries, *late)]
    if not rows:
        yield Text("No vote is in the record.")
        return
    yield table_of(rows, ("expert", "down", "flat", "up", "abstained", "weight", "skill", "evidence"))


def _vote_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    evidence = [f"{name} {shown('', value)}" for name, value in sorted(entry["evidence"].items())]
    more = f", and {len(evidence) - _EVIDENCE_SHOWN} more" if len(evidence) > _EVIDENCE_SHOWN else ""
    return {
        "expert": entry["expert"],
        "down": entry["p_down"],
        "flat": entry["p_flat"],
        "up": entry["p_up"],
        "abstained": "too late" if entry.get("late") else entry["abstained"],
        "weight": entry["weight"],
        "skill": entry["skill"],
        "evidence": ", ".join(evidence[:_EVIDENCE_SHOWN]) + more or None,
    }


def _tally(chain: Chain) -> Iterator[RenderableType]:
    tally = chain["tally"]
    if tally is None:
        yield Text("The tally is not in the record.")
        return
    pooled = "nobody gave a direction"
    if tally["p_up"] is not None:
        pooled = f"down {tally['p_down']:.3f}, flat {tally['p_flat']:.3f}, up {tally['p_up']:.3f}"
    yield _said(pooled, f"over {tally['horizon_ns'] / NS_PER_S:g} s", f"flat is a move up to {tally['flat_band']}")
    yield _said(
        f"disagreement {shown('', tally['disagreement'])} nats",
        f"volatility {shown('', tally['volatility'])}",
        f"spread {shown('', tally['spread'])}",
        f"closed by {tally['closed_by']}",
        f"late: {', '.join(tally['late'])}" if tally["late"] else "",
    )
    context = ", ".join(f"{name} {shown('', value)}" for name, value in sorted(tally["context"].items()))
    if context:
        yield Text(f"context: {context}")


def _decision(chain: Chain) -> Iterator[RenderableType]:
    decision = chain["decision"]
    yield _said(
        decision["event_id"],
        shown("time", decision["time"]),
        f"{decision['account']}/{decision['strategy']} on {decision['instrument']}",
        f"policy {decision['policy']} ({decision['policy_stage']})",
    )
    if decision["withheld"] is not None:
        yield Text(withheld(decision))
    because = f" because of {decision['reason']}" if decision["reason"] else ""
    yield _said(
        f"{decision['outcome']}{because}: target {decision['target']:g} after {decision['previous_target']:g}",
        f"edge {shown('', decision['edge'])}",
        f"cost {shown('', decision['cost'])}",
        f"mid {shown('', decision['mid'])}",
    )


def withheld(decision: Mapping[str, Any]) -> str:
    """Return which model in force was not asked, and why."""
    why = {"OUTSIDE_TRAINING": f"it was not trained on {decision['instrument']}"}
    reason = decision["withheld_for"]
    return f"{decision['withheld']} is in force and was not asked: {reason}, {why.get(reason, 'see docs/decider.md')}"


def _verdicts(chain: Chain) -> Iterator[RenderableType]:
    if not chain["verdicts"]:
        yield Text("Risk was not asked for an order, or its verdict is not in the record yet.")
    for verdict in chain["verdicts"]:
        reasons = f" for {', '.join(verdict['reasons'])}" if verdict["reasons"] else ""
        side = f" {verdict['side']}" if verdict["side"] else ""
        yield _said(
            f"{verdict['verdict']}{reasons}:{side} {verdict['quantity']} {verdict['instrument']}",
            f"order {shown('order_id', verdict['order_id'])}",
            protects(verdict),
            f"limits {verdict['limits_version']}",
            f"after cancelling {', '.join(verdict['cancels'])}" if verdict["cancels"] else "",
        )
        rows = [
            {
                "check": check["reason"],
                "passed": check["passed"],
                "observed": check["observed"],
                "limit": check["limit"],
            }
            for check in verdict["checks"]
        ]
        if rows:
            yield table_of(rows, ("check", "passed", "observed", "limit"))


def _orders(chain: Chain) -> Iterator[RenderableType]:
    if not chain["orders"]:
        yield Text("There was no order.")
    for order in chain["orders"]:
        limit = f" at {order['limit_price']}" if order["limit_price"] is not None else ""
        yield _said(
            f"{order['order_id']}: {order['side']} {order['quantity']} {order['order_type']}{limit}"
            f" {order['time_in_force']}",
            protects(order),
            f"{order['status']}{' (final)' if order['final'] else ''}",
            f"filled {order['filled_quantity']} at {shown('', order['average_price'])}",
            order["reason"] or "",
        )
        events = [event for event in chain["order_events"] if event["order_id"] == order["order_id"]]
        columns = ("time", "exec_type", "status", "filled_quantity", "leaves_quantity", "position_after", "reason")
        yield table_of(events, columns)


def protects(order: Mapping[str, Any]) -> str:
    """Return from where a stop acts, and what an order that protects a position is for."""
    stop = f"from {order['stop_price']}" if order["stop_price"] is not None else ""
    leg = f"{order['leg']} of {shown('order_id', order['parent_order_id'])}" if order["leg"] is not None else ""
    return ", ".join(part for part in (stop, leg) if part)


def _fills(chain: Chain) -> Iterator[RenderableType]:
    if not chain["fills"]:
        yield Text("There was no fill.")
        return
    columns = ("time", "fill_id", "side", "price", "quantity", "fee", "liquidity", "slippage", "realised_pnl")
    yield table_of(chain["fills"], columns)


def _feedback(chain: Chain) -> Iterator[RenderableType]:
    empty = True
    if chain["feedback"]:
        empty = False
        columns = (
            "side",
            "quantity",
            "entry_price",
            "exit_price",
            "gross_pnl",
            "fees",
            "slippage",
            "net_pnl",
            "currency",
        )
        yield table_of(chain["feedback"], columns)
    for transition in chain["experience"]:
        empty = False
        yield _said(
            f"reward {shown('reward', transition['reward'])}",
            f"from a change of mid of {shown('pnl', transition['pnl'])}",
            f"less fees {shown('fees', transition['fees'])} and slippage {shown('slippage', transition['slippage'])}",
            f"held {transition['effective']:g} of the {transition['intended']:g} intended",
        )
    if chain["scores"]:
        empty = False
        yield table_of(chain["scores"], ("expert", "outcome", "move", "loss", "base_loss", "pool_loss", "abstained"))
    for voided in chain["voided"]:
        empty = False
        yield Text(f"The ballot was voided: {voided['reason']}.")
    for reported in chain["outcomes"]:
        empty = False
        yield _said(f"reported: {reported['kind']} {reported['value']:g}", reported["note"])
    if empty:
        yield Text("There is no feedback yet.")
