"""Whether a run has come to rest: everything read, everything sent, nothing asked that nobody has answered."""

from typing import TYPE_CHECKING, Final

import msgspec

from agents.execution.orders import OrderState
from schemas.orders import OrderStatus
from schemas.topics import CONTROL
from schemas.values import TimeInForce
from streams.engine.journal import decode_outbox
from streams.engine.lane import lane_of
from streams.engine.ports import StageHosting, StageKind
from streams.engine.shard import Progress
from streams.simulation.database import ShardRows
from streams.simulation.member import CODEC
from streams.simulation.plan import PARTITIONS

if TYPE_CHECKING:
    from streams.simulation.world import World

_AT_VENUE: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})
_RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.POST_ONLY})
_CLOCKLESS: Final = frozenset({"voting", "control"})
"""Outbox stages that journal no Heartbeats of their own, so that nothing may ever follow a batch."""


def unfinished(world: "World") -> str | None:
    """Return what is still under way, or None."""
    for hosting in world.hostings.values():
        for topic in hosting.topics:
            for number in range(topic.partitions(PARTITIONS)):
                lane = (topic.name, number)
                reached = _reached(world, hosting, lane)
                if world.log.end(lane) > reached:
                    return f"{hosting.name} stands at {reached} of {lane_of(*lane)}"
    for (stage, shard), rows in world.database.shards.items():
        if rows.outbox and not (stage in _CLOCKLESS and _is_there(world, rows)):
            return f"{stage}/{shard} has not sent {sorted(rows.outbox)}"
    if world.venue.core.next_due_ns is not None:
        return "the venue has something to say"
    return _unheard_command(world) or _open_question(world)


def _unheard_command(world: "World") -> str | None:
    records = world.log.lanes.get((CONTROL.name, 0), [])
    heard = {CODEC.decode(record.topic, record.value, record.headers).command_id for record in records}
    return next((f"{name} was not passed on" for name in world.database.commands if name not in heard), None)


def _is_there(world: "World", rows: ShardRows) -> bool:
    """Tell whether all that a shard has to send lies in the log: the row goes with the next batch, if one comes."""
    return all(
        any(record.value == one.value for record in reversed(world.log.lanes.get((one.topic, one.partition), [])))
        for batch in rows.outbox.values()
        for one in decode_outbox(batch)
    )


def _open_question(world: "World") -> str | None:
    """Return an order of which execution does not know yet what became of it, or None."""
    rows = world.database.shards["execution", "0"]
    for key in sorted(rows.state):
        if key.startswith("order/"):
            order = msgspec.msgpack.decode(rows.state[key], type=OrderState)
            waits = order.status not in _AT_VENUE or order.time_in_force not in _RESTING
            if waits and not order.final:
                return f"order {order.order_id} is {order.status}"
    return None


def _reached(world: "World", hosting: StageHosting, lane: tuple[str, int]) -> int:
    shard = str(lane[1]) if hosting.kind is StageKind.OUTBOX else lane_of(*lane)
    rows = world.database.shards.get((hosting.name, shard))
    if rows is None or not rows.progress:
        return 0
    return msgspec.msgpack.decode(rows.progress, type=Progress).next_offsets.get(lane_of(*lane), 0)
