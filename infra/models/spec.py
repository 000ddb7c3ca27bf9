"""What an artefact says of itself beside its weights: enough to check it, to reproduce it and to see its inputs drift.

It holds no time and no host, so that training once more gives the same bytes.
"""

import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import msgspec

from infra.models.refusals import ArtefactRefused, Refusal

SPEC_BYTES_MAX: Final = 256 * 1024
NETWORK: Final = "set-1"
"""The one shape of network that there is: votes encoded one by one, pooled, joined with the context, read by a head."""
MARKET_STEPS_MIN: Final = 256
"""With fewer steps of an instrument among what it has learnt from, a model was not trained on it: it has met it."""
_INSTRUMENT: Final = re.compile(r"([A-Z0-9_]{1,32}:[A-Za-z0-9_./-]{1,64})(?:,|\Z)")

Text = Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x7e]{1,200}\Z")]
ModelName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]
_encoder: Final = msgspec.json.Encoder(order="deterministic")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written exactly so, without a field more."""


class DataRange(_Part, frozen=True, kw_only=True):
    """Data that a model has seen in training: whose, from where to where, and in how many steps.

    ``source`` begins with the instrument, ``VENUE:SYMBOL``, and goes on after a comma. One that begins otherwise is of
    no market in particular, and lets a model act on none.
    """

    source: Text
    begin: Text
    end: Text
    steps: Count

    @property
    def instrument(self) -> str | None:
        """The instrument that the source begins with."""
        found = _INSTRUMENT.match(self.source)
        return None if found is None else found[1]


class FeatureMoments(_Part, frozen=True, kw_only=True):
    """A feature in training, in its own unit: mean, standard deviation, and of how many values."""

    mean: float
    deviation: Annotated[float, msgspec.Meta(ge=0)]
    count: Count


class ArtefactSpec(_Part, frozen=True, kw_only=True):
    """The spec of one model.

    ``schema`` names the feature schema, ``vote_features`` and ``context_features`` are its names in the order of the
    tensors' columns, ``targets`` what the head's rows stand for. ``trials`` counts every configuration that was tried
    before this one was chosen, which its metrics must answer for. ``moments`` is feature -> its training moments.
    ``calibrators`` is name -> numbers, where the model has its own. ``learning`` is what training was told, ``parent``
    the address of the artefact from which it went on. ``tensors`` (name -> shape) is filled in by the writer.
    """

    name: ModelName
    schema: Text
    vote_features: tuple[Text, ...]
    context_features: tuple[Text, ...]
    targets: tuple[float, ...]
    seed: Count
    trials: Annotated[int, msgspec.Meta(ge=1)]
    data: tuple[DataRange, ...]
    metrics: dict[Text, float]
    libraries: dict[Text, Text]
    moments: dict[Text, FeatureMoments]
    learning: dict[Text, Text | int | float | bool] = {}
    calibrators: dict[Text, tuple[float, ...]] = {}
    parent: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    network: str = NETWORK
    tensors: dict[Text, tuple[int, ...]] = {}

    @property
    def markets(self) -> tuple[str, ...]:
        """The instruments that the model was trained on, by name: of each at least ``MARKET_STEPS_MIN`` steps."""
        steps: Counter[str] = Counter()
        for part in self.data:
            if part.instrument is not None:
                steps[part.instrument] += part.steps
        return tuple(sorted(name for name, count in steps.items() if count >= MARKET_STEPS_MIN))


def spec_bytes(spec: ArtefactSpec) -> bytes:
    """Return the one JSON text of a spec. Raises ArtefactRefused (BAD_SPEC) for one that could not be read again."""
    try:
        # A whole number in a float's place would be written differently from how it is read.
        return _encoder.encode(msgspec.json.decode(_encoder.encode(spec), type=ArtefactSpec))
    except msgspec.ValidationError as error:
        raise ArtefactRefused(Refusal.BAD_SPEC, f"the spec could not be read again: {_told(error)}") from error


def parsed_spec(content: bytes) -> ArtefactSpec:
    """Return the spec of a JSON text. Raises ArtefactRefused (BAD_SPEC), also for a key that is there twice."""
    try:
        spec = msgspec.json.decode(content, type=ArtefactSpec)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ArtefactRefused(Refusal.BAD_SPEC, f"the spec is not what it has to be: {_told(error)}") from error
    if _encoder.encode(spec) != content:
        raise ArtefactRefused(Refusal.BAD_SPEC, "the spec is not in its one form: keys twice, spaces, or another order")
    if spec.network != NETWORK:
        raise ArtefactRefused(Refusal.UNKNOWN_FORMAT, f"the network {spec.network[:40]!a} is not known here")
    return spec


def installed_versions(*names: str) -> dict[str, str]:
    """Return library -> version of those that are installed, for ``ArtefactSpec.libraries``."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _told(error: Exception) -> str:
    return ascii(str(error)[:160])[1:-1]
