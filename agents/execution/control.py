"""Changes of limits and levels at the last gate: decided once, told once, and followed by everybody else.

What arrives here was examined by this worker's own shell, from the rows that people wrote; what comes by Kafka may make
stricter and never looser. So whoever can write a row or a record, but has no two people's keys, raises nothing.
"""

from agents.execution.conduct import forgive
from agents.execution.moves import cancel
from agents.execution.orders import OrderState
from agents.execution.turn import Turn
from agents.limits.book import LimitBook
from agents.limits.changes import Decided, LevelNow, decide
from schemas.changes import Change, ChangeRefusal, ControlOutcome, Examined, OutcomeKind, canonical_text, change_id
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.values import Level


def take_examined(turn: Turn, examined: Examined) -> None:
    """Decide a change and say what came of it. One seen before is ignored."""
    command, desk = examined.command, turn.desk
    if command.action is ControlAction.RELEASE_MODEL:
        return  # Which model decides is the control worker's to say; no limit follows from it.
    if command.ordinal:
        if command.ordinal <= desk.changes_through:
            return
        desk.changes_through = command.ordinal
        turn.touch_desk()
    key = level_key(command)
    level = LevelNow(desk.level_ordinals.get(key, 0), desk.latched_ns.get(key, 0))
    before = turn.book(desk.now_ns)
    decided = decide(before, turn.config.effective, examined, level, desk.now_ns)
    if decided.book is None:
        _say(turn, examined, decided, before)
        return
    turn.keep_book(decided.book)
    if command.action is ControlAction.SET_LEVEL and command.level is not None:
        set_level(turn, command, command.level)
        forgive(turn, command)
    _say(turn, examined, decided, before)


def set_level(turn: Turn, command: ControlCommand, level: Level) -> None:
    """Set a scope's level, and cancel what works in it when it is HALTED."""
    key = level_key(command)
    turn.desk.levels[key] = level
    turn.desk.level_ordinals[key] = max(command.ordinal, turn.desk.level_ordinals.get(key, 0))
    turn.desk.causes.pop(key, None)
    turn.desk.latched_ns.pop(key, None)
    turn.touch_desk()
    if level is Level.HALTED:
        cancel_scope(turn, command)


def level_key(command: ControlCommand) -> str:
    """Return the name of a command's scope in the desk's levels."""
    return f"{command.scope}|{'*' if command.scope is ScopeKind.GLOBAL else command.target}"


def cancel_scope(turn: Turn, command: ControlCommand, until_ns: int | None = None) -> None:
    """Cancel what works in a command's scope; with ``until_ns`` only what was made by then."""
    for name in sorted(turn.config.accounts):
        if f"account/{name}" not in turn.state:
            continue
        for order_id in list(turn.account(name).open_orders):
            order: OrderState = turn.state[f"order/{order_id}"]
            if _in_scope(order, command) and (until_ns is None or order.created_at_ns <= until_ns):
                cancel(turn, order)


def _in_scope(order: OrderState, command: ControlCommand) -> bool:
    if command.scope is ScopeKind.GLOBAL:
        return command.action is ControlAction.SET_LEVEL or command.target == "*"
    named = {
        ScopeKind.ACCOUNT: order.account,
        ScopeKind.STRATEGY: order.strategy,
        ScopeKind.INSTRUMENT: order.instrument,
    }
    return named[command.scope] == command.target


def refuse_loosening(turn: Turn, command: ControlCommand) -> None:
    """Say that one person's word does not loosen a level."""
    refused = Decided(refusal=ChangeRefusal.NEEDS_TWO_PEOPLE, detail=f"{command.scope} {command.target}")
    _say(turn, Examined(key=command.key, event_time_ns=0, available_at_ns=0, command=command), refused, turn.book())


def tell_limits(turn: Turn) -> None:
    """Say at each claim which limits are in force, for whoever follows; the first claim puts the settings' in force."""
    book = turn.book(turn.desk.now_ns)
    turn.keep_book(book)
    _tell(turn, OutcomeKind.IN_FORCE, book)


def let_overrides_lapse(turn: Turn) -> None:
    """End the overrides that are over, and say so."""
    kept: LimitBook | None = turn.state.get("limits")
    if kept is None:
        return
    until_ns = kept.next_lapse_ns()
    if until_ns is not None and until_ns <= turn.desk.now_ns:
        over = [item.change_id for item in kept.overrides if item.until_ns <= turn.desk.now_ns]
        book = turn.book(turn.desk.now_ns)
        turn.keep_book(book)
        _tell(turn, OutcomeKind.LAPSED, book, ", ".join(over))


def _tell(turn: Turn, kind: OutcomeKind, book: LimitBook, detail: str = "") -> None:
    turn.outputs.append(
        ControlOutcome(
            key="*",
            event_time_ns=turn.event.event_time_ns,
            available_at_ns=turn.at_ns,
            outcome=kind,
            command_id="",
            change_id="",
            author=book.owner,
            reason=book.reason,
            approved_by=(),
            action=ControlAction.SET_LIMITS,
            scope=ScopeKind.GLOBAL,
            target="*",
            version=book.version,
            detail=detail,
            sets=book.sets,
            overrides=book.overrides,
        )
    )


def _say(turn: Turn, examined: Examined, decided: Decided, before: LimitBook) -> None:
    command, change = examined.command, examined.change
    book = decided.book or before
    told = decided.book is not None and command.action is ControlAction.SET_LIMITS
    turn.outputs.append(
        ControlOutcome(
            key=command.target,
            event_time_ns=turn.event.event_time_ns,
            available_at_ns=turn.desk.now_ns or turn.at_ns,
            outcome=OutcomeKind.REFUSED if decided.book is None else OutcomeKind.APPLIED,
            command_id=command.command_id,
            change_id="" if change is None else change_id(canonical_text(change)),
            author=command.author,
            reason=command.reason,
            approved_by=examined.approved_by,
            action=command.action,
            scope=command.scope,
            target=command.target,
            level=command.level,
            values={} if change is None else dict(change.values),
            loosens=decided.loosens,
            base=before.version,
            version=book.version,
            proposed_at_ns=0 if change is None else change.proposed_at_ns,
            seen_through=_seen_through(change),
            until_ns=None if change is None else change.until_ns,
            refusal=decided.refusal,
            detail=decided.detail,
            sets=book.sets if told else {},
            overrides=book.overrides if told else (),
        )
    )


def _seen_through(change: Change | None) -> int:
    if change is None or change.action is not ControlAction.SET_LEVEL or not change.base.isdecimal():
        return 0
    return int(change.base)
