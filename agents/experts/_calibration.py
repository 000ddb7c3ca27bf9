"""From a signal to probabilities, learning slope and base rates from mids the expert has already been shown.

An expert knows which way it leans; how much that is worth at a horizon is a question for the data. Every expert
that votes on direction shares this answer, so their probabilities mean the same thing. It looks only backwards: a
forecast is kept until a snapshot at or after its horizon brings the mid it was about.
"""

import math
from dataclasses import dataclass

import msgspec

from schemas.opinions import FeatureSnapshot
from schemas.values import NS_PER_S

Probabilities = tuple[float, float, float]
"""Down, flat, up; they sum to 1."""

_UNIFORM: Probabilities = (1 / 3, 1 / 3, 1 / 3)


class Forecast(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A signal whose outcome is not known yet: when it falls due (ns) and the mid and flat band it was about."""

    due_ns: int
    mid: int
    flat_band: int
    signal: float


class Track(msgspec.Struct, frozen=True, gc=False):
    """What was learned for one horizon: log-odds of down and up against flat, and the slope on the signal."""

    horizon_ns: int
    slope: float
    bias_down: float = 0.0
    bias_up: float = 0.0
    matured: int = 0
    pending: tuple[Forecast, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """An online ordered logit per horizon: down ``b_d - a s``, flat 0, up ``b_u + a s``.

    The slope starts at ``slope / (1 + horizon / decay_s)`` and stays in [0, ``slope_max``]: data may refute the
    expert's hypothesis, which leaves it the base rates, but never turn it into the opposite one. Forecasts are
    kept at most every ``horizon / overlap``, and those that overlap share one step of the learning rate, which
    falls from 0.2 as ``4 / (n + 20)`` to ``learning_rate``: n overlapping outcomes tell less than n separate ones.
    """

    slope: float
    decay_s: float
    slope_max: float = 2.0
    bias_max: float = 4.0
    signal_max: float = 3.0
    learning_rate: float = 0.02
    overlap: int = 8
    floor: float = 0.01

    def __post_init__(self) -> None:
        """Refuse settings under which a probability could be 0 or a track could grow without bound."""
        assert 0 <= self.slope <= self.slope_max
        assert 0 < self.floor < 1 / 3
        assert self.decay_s > 0
        assert self.overlap >= 1

    def answer(
        self, tracks: tuple[Track, ...], snapshot: FeatureSnapshot, signals: tuple[float | None, ...]
    ) -> tuple[tuple[Track, ...], tuple[Probabilities, ...]]:
        """Learn from what fell due, then turn one signal per question into probabilities.

        ``tracks`` are those of the snapshot before (or none). A signal of None asks for nothing: the answer to it
        is uniform and must not be published.
        """
        known = {track.horizon_ns: track for track in tracks}
        after: list[Track] = []
        answers: list[Probabilities] = []
        for question, signal in zip(snapshot.questions, signals, strict=True):
            track = known.get(question.horizon_ns) or self._new_track(question.horizon_ns)
            track = self._learn(track, snapshot)
            if signal is None or snapshot.mid is None:
                answers.append(_UNIFORM)
            else:
                clipped = max(-self.signal_max, min(self.signal_max, signal))
                answers.append(self._floored(_softmax(track, clipped)))
                forecast = Forecast(
                    snapshot.grid_time_ns + question.horizon_ns, snapshot.mid, question.flat_band, clipped
                )
                track = self._remember(track, forecast)
            after.append(track)
        return tuple(after), tuple(answers)

    def _new_track(self, horizon_ns: int) -> Track:
        return Track(horizon_ns=horizon_ns, slope=self.slope / (1 + horizon_ns / NS_PER_S / self.decay_s))

    def _remember(self, track: Track, forecast: Forecast) -> Track:
        pending = track.pending
        if pending and forecast.due_ns - pending[-1].due_ns < track.horizon_ns // self.overlap:
            return track
        return msgspec.structs.replace(track, pending=(*pending, forecast))

    def _learn(self, track: Track, snapshot: FeatureSnapshot) -> Track:
        pending = track.pending
        if not pending or pending[0].due_ns > snapshot.grid_time_ns:
            return track
        if snapshot.mid is None:
            return msgspec.structs.replace(track, pending=())
        slope, down, up, matured, rest = track.slope, track.bias_down, track.bias_up, track.matured, 0
        overlapping = len(pending)
        latest_ns = snapshot.grid_time_ns - track.horizon_ns
        for forecast in pending:
            if forecast.due_ns > snapshot.grid_time_ns:
                break
            rest += 1
            if forecast.due_ns <= latest_ns:
                # A silence longer than the horizon lies between: this mid is not the outcome that was asked about.
                continue
            matured += 1
            rate = max(self.learning_rate, 4 / (matured / overlapping + 20)) / overlapping
            p_down, _, p_up = _softmax(Track(track.horizon_ns, slope, down, up), forecast.signal)
            move = snapshot.mid - forecast.mid
            error_down = p_down - (move < -forecast.flat_band)
            error_up = p_up - (move > forecast.flat_band)
            down = _clip(down - rate * error_down, self.bias_max)
            up = _clip(up - rate * error_up, self.bias_max)
            moved = slope - rate * forecast.signal * (error_up - error_down)
            slope = max(0.0, min(self.slope_max, moved))
        return Track(track.horizon_ns, slope, down, up, matured, pending[rest:])

    def _floored(self, answer: Probabilities) -> Probabilities:
        down, flat, up = answer
        kept = 1 - 3 * self.floor
        return (self.floor + kept * down, self.floor + kept * flat, self.floor + kept * up)


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def _softmax(track: Track, signal: float) -> Probabilities:
    lean = track.slope * signal
    down, up = math.exp(track.bias_down - lean), math.exp(track.bias_up + lean)
    total = 1.0 + down + up
    return (down / total, 1.0 / total, up / total)
