"""Artefacts for tests: a small network of the right shape, a spec that fits it, and artefacts that are evil."""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.artefacts import MANIFEST_NAME, SPEC_NAME, WEIGHTS_NAME, Manifest, write_artefact
from infra.models.keys import development_key
from infra.models.spec import ArtefactSpec, DataRange, FeatureMoments
from infra.people import PersonalKey

Arrays = dict[str, NDArray[np.float32]]
VOTES = ("p_down", "p_up", "weight")
CONTEXT = ("volatility", "target")
MARKETS = ("SIM:BTCUSD", "SIM:ETHUSD")
KEY = development_key()
KEYS = {KEY.name: KEY.public_key}


def small_weights(votes: int = len(VOTES), context: int = len(CONTEXT), width: int = 4, seed: int = 1) -> Arrays:
    """Return a network of the one shape: phi and rho of two layers of this width."""
    draws = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "phi.0.weight": (width, votes),
        "phi.0.bias": (width,),
        "phi.1.weight": (width, width),
        "phi.1.bias": (width,),
        "rho.0.weight": (width, 2 * width + context),
        "rho.0.bias": (width,),
        "rho.1.weight": (width, width),
        "rho.1.bias": (width,),
        "head.weight": (5, width),
        "head.bias": (5,),
        "votes.mean": (votes,),
        "votes.scale": (votes,),
        "context.mean": (context,),
        "context.scale": (context,),
    }
    weights = {name: draws.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ("votes.scale", "context.scale"):
        weights[name] = np.abs(weights[name]) + np.float32(0.5)
    return weights


def small_spec(votes: tuple[str, ...] = VOTES, context: tuple[str, ...] = CONTEXT, name: str = "small") -> ArtefactSpec:
    """Return a spec with something in every field."""
    return ArtefactSpec(
        name=name,
        schema="test.1",
        vote_features=votes,
        context_features=context,
        targets=(-1.0, -0.5, 0.0, 0.5, 1.0),
        seed=7,
        trials=3,
        data=tuple(DataRange(source=f"{name}, mixed", begin="seed 1", end="seed 9", steps=20_000) for name in MARKETS),
        metrics={"net_sharpe": 0.25, "turnover": 3},
        libraries={"numpy": "2.0"},
        moments={name: FeatureMoments(mean=0.5, deviation=0.25, count=20_000) for name in context},
        learning={"algorithm": "qrdqn", "steps": 20_000, "rate": 0.001},
        calibrators={"up": (0.0, 1.0)},
    )


def small_artefact(store: Path, *, seed: int = 1, key: PersonalKey = KEY, name: str = "small") -> str:
    """Write an artefact and return its address."""
    return write_artefact(store, small_weights(seed=seed), small_spec(name=name), key)


@dataclass
class Forged:
    """An artefact that somebody with a key that counts has made by hand, around our writer's own refusals."""

    weights: bytes
    spec: bytes
    key: PersonalKey = KEY
    claims: dict[str, object] = field(default_factory=dict)

    def write(self, store: Path) -> str:
        """Write it, signed over whatever it holds, and return its address."""
        unsigned = Manifest(
            format="tradermind.model.1",
            key=self.key.name,
            spec_bytes=len(self.spec),
            spec_sha256=hashlib.sha256(self.spec).hexdigest(),
            weights_bytes=len(self.weights),
            weights_sha256=hashlib.sha256(self.weights).hexdigest(),
        )
        unsigned = msgspec.structs.replace(unsigned, **self.claims)
        signature = self.key.sign_bytes(unsigned.signed_bytes())
        return put(
            store, self.weights, self.spec, msgspec.json.encode(msgspec.structs.replace(unsigned, signature=signature))
        )


def forged_from(store: Path) -> Forged:
    """Return the contents of a good artefact, to be spoilt."""
    place = store / small_artefact(store)
    forged = Forged((place / WEIGHTS_NAME).read_bytes(), (place / SPEC_NAME).read_bytes())
    shutil.rmtree(place)
    return forged


def put(store: Path, weights: bytes, spec: bytes, manifest: bytes) -> str:
    """Write three files at the address of the manifest, whatever they hold."""
    address = hashlib.sha256(manifest).hexdigest()
    place = store / address
    place.mkdir(parents=True, exist_ok=True)
    for name, content in ((WEIGHTS_NAME, weights), (SPEC_NAME, spec), (MANIFEST_NAME, manifest)):
        (place / name).write_bytes(content)
    return address
