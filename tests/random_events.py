"""Events of every type that has points, with random numbers, missing values and names that nobody would choose."""

import enum
import random
import types
import typing
from decimal import Decimal
from typing import Any

import msgspec
from every_event import example

from infra.influx.schema import MEASUREMENTS
from schemas.event import Event
from schemas.values import NS_PER_S

NAMES = ("plain", "with space", "a,b=c", 'say "so"', "Zürich €", "tab\there", "back\\slash", "line\nbreak", "end\\", "")
_DAY_NS = 86_400 * NS_PER_S
_FIXED = frozenset(("key", "event_id", "cause_id", "source", "available_at_ns", "seq", "generation", "account"))
_FIXED_FOR_ALL = _FIXED | {"strategy", "policy", "expert", "instrument", "policy_stage", "closed_by", "decision_id"}


def random_events(count: int, seed: int, start_ns: int, days: int = 3) -> list[Event]:
    """Return ``count`` events of each type, over so many days, no two of one type at one time."""
    chance = random.Random(seed)
    return [_random_event(record, chance, n, start_ns, days) for record in MEASUREMENTS for n in range(count)]


def _random_event(record: type[Event], chance: random.Random, number: int, start_ns: int, days: int) -> Event:
    hints = typing.get_type_hints(record)
    base = example(record)
    changes: dict[str, Any] = {
        name: _value(hints[name], getattr(base, name), chance)
        for name in record.__struct_fields__
        if name not in _FIXED_FOR_ALL
    }
    changes |= {name: chance.choice(NAMES[:-1]) for name in ("strategy", "expert") if name in hints}
    if "decision_id" in hints:
        changes["decision_id"] = f"{record.__name__}-{number}"
    changes |= {"horizon_ns": chance.choice((1, 10, 60)) * NS_PER_S} if "horizon_ns" in hints else {}
    changes |= {"interval_ns": chance.choice((1, 60)) * NS_PER_S} if "interval_ns" in hints else {}
    return msgspec.structs.replace(
        base,
        event_id=f"{record.__name__}-{number}",
        available_at_ns=start_ns + chance.randrange(days * _DAY_NS),
        seq=chance.randrange(2**40),
        generation=1,
        **changes,
    )


def _value(hint: Any, was: Any, chance: random.Random) -> Any:
    if typing.get_origin(hint) is types.UnionType:
        if chance.random() < 0.3:
            return None
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return chance.choice(list(hint))
    if typing.get_origin(hint) is dict:
        return {f"n{index}": _number(chance) for index in range(chance.randrange(4))}
    if typing.get_origin(hint) is tuple:
        return was
    made = {
        bool: lambda: chance.random() < 0.5,
        int: lambda: chance.randrange(2**53),
        float: lambda: _number(chance),
        str: lambda: chance.choice(NAMES),
        Decimal: lambda: Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-chance.randrange(19)),
    }
    return made[hint]()


def _number(chance: random.Random) -> float:
    return chance.choice((0.0, 1.0, -3.0, 1e-9, 1e22, chance.random(), chance.gauss(0, 1e6)))
