"""The two people of a simulation who must both want what loosens: their keys, and what they sign with them."""

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.people import SIGNING_ROLE, Person, PersonalKey
from schemas.changes import Change, canonical_text
from schemas.control import Approval, ControlAction, ControlCommand, ScopeKind
from schemas.values import NS_PER_S, Level

_LIFE_NS: Final = 3_600 * NS_PER_S


def _key(name: str) -> PersonalKey:
    seed = hashlib.blake2b(f"simulated/{name}".encode(), digest_size=32).digest()
    return PersonalKey(name, Ed25519PrivateKey.from_private_bytes(seed))


KEYS: Final = (_key("ann"), _key("bob"))
PEOPLE: Final = {key.name: Person(key.name, SIGNING_ROLE, key.public_key) for key in KEYS}


def simulated_people() -> dict[str, Person]:
    """Return who may sign in a simulation."""
    return PEOPLE


def signed_reset(name: str, scope: tuple[ScopeKind, str], level: Level, seen: int, now_ns: int) -> ControlCommand:
    """Return the command by which both set a level, having seen ``seen`` commands."""
    change = Change(
        action=ControlAction.SET_LEVEL,
        scope=scope[0],
        target=scope[1],
        base=str(seen),
        owner="somebody",
        reason="a simulated one",
        proposed_at_ns=now_ns,
        expires_at_ns=now_ns + _LIFE_NS,
        nonce=name,
        level=level,
    )
    text = canonical_text(change)
    return ControlCommand(
        key=name,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=name,
        command_id=name,
        author=change.owner,
        reason=change.reason,
        action=change.action,
        scope=change.scope,
        target=change.target,
        level=level,
        change=text,
        approvals=tuple(Approval(person=key.name, signature=key.sign(text)) for key in KEYS),
    )
