"""The inference service: what the policy would want of an observation, for whoever asks over HTTP.

It answers with the very function that the decider calls, so that the answer is the decider's to the bit. It serves one
artefact for as long as it runs, names it in each answer, and takes no order: nothing follows from an answer here.
"""

import enum
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Annotated, Any, Final, NamedTuple, Self

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agents.decider.allowed import ANY_TARGET, Allowed, project
from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES, encode
from agents.decider.policy import TARGETS, Observation
from agents.decider.set_policy import SetPolicy, best_target
from infra.artefacts import Artefact
from infra.metrics.metric import MODEL_SERVE
from infra.metrics.of_engine import MODELS_REFUSED
from infra.metrics.of_stages import MODEL_INFERENCE
from infra.metrics.registry import Metrics
from infra.models.alarm import REFUSED
from infra.models.refusals import Refusal

BODY_BYTES_MAX: Final = 256 * 1024
NUMBERS_MAX: Final = 4_096
_THERE_ARE: Final = "There are POST /predict, GET /healthz, GET /model and GET /metrics."
_LOG: Final = logging.getLogger("tradermind.inference")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class RefusalCode(enum.StrEnum):
    """Every reason for which a request gets no answer. The list is closed."""

    NOT_JSON = "NOT_JSON"
    NOT_AN_OBSERVATION = "NOT_AN_OBSERVATION"
    TOO_LARGE = "TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    NOT_ALLOWED = "NOT_ALLOWED"
    BAD_REQUEST = "BAD_REQUEST"
    MODEL_INVALID = "MODEL_INVALID"
    INTERNAL = "INTERNAL"


class Unanswerable(Exception):
    """A request that gets no answer: the status, the closed code, and one sentence."""

    def __init__(self, status: int, code: RefusalCode, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class PredictBody(BaseModel):
    """What is asked: the observation as decisions store it, named numbers of which any may be null."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    observation: Annotated[dict[_Name, _Number | None], Field(max_length=NUMBERS_MAX)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        low, high = (self.observation.get(f"allowed.{side}") for side in ("low", "high"))
        if (low is None) is not (high is None):
            raise ValueError("allowed.low and allowed.high go together")
        if low is not None and high is not None and not -1.0 <= low <= high <= 1.0:
            raise ValueError("-1 <= allowed.low <= allowed.high <= 1 does not hold")
        return self


class Prediction(NamedTuple):
    """What the policy wants: ``wanted`` of the lattice, ``target`` as held to what is allowed, Q for ``TARGETS``."""

    target: float
    wanted: float
    q_values: tuple[float, ...]


def predict(policy: SetPolicy, observation: Observation) -> Prediction | None:
    """Return what a policy wants of an observation, as the decider would; None when a value is not finite.

    Without ``allowed.low`` and ``.high`` every target is allowed; without ``target``, what is in force counts as 0,
    which only tells equal values apart.
    """
    values = policy.q_values(encode(observation)).tolist()
    if not math.isfinite(sum(values)):
        return None
    wanted = best_target(values, observation.get("target") or 0.0)
    return Prediction(project(wanted, _allowed(observation)), wanted, tuple(values))


def _allowed(observation: Observation) -> Allowed:
    low, high = observation.get("allowed.low"), observation.get("allowed.high")
    return ANY_TARGET if low is None or high is None else Allowed(low, high)


class InferenceServer:
    """Serves one artefact. Raises ArtefactRefused for one that does not read the decider's features."""

    def __init__(self, artefact: Artefact) -> None:
        artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
        self._artefact = artefact
        self._policy = SetPolicy(artefact.name, artefact.weights)
        self._metrics = Metrics(MODEL_SERVE, [MODEL_SERVE])
        self._named = {"model": artefact.name, "sha256": artefact.sha256}

    @property
    def told(self) -> str:
        """Which model is served, for people."""
        return f"{self._artefact.name} {self._artefact.sha256[:12]}"

    def application(self) -> web.Application:
        """Return the web application."""
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_one_error])
        app.add_routes(
            [
                web.post("/predict", self._predict),
                web.get("/healthz", self._health),
                web.get("/model", self._model),
                web.get("/metrics", self._metrics_told),
            ]
        )
        return app

    async def _health(self, request: web.Request) -> web.Response:
        del request
        return _json({"status": "ok", **self._named})

    async def _model(self, request: web.Request) -> web.Response:
        del request
        spec = self._artefact.spec
        told = {
            "schema": spec.schema,
            "vote_features": spec.vote_features,
            "context_features": spec.context_features,
            "targets": TARGETS,
            "metrics": spec.metrics,
            "trials": spec.trials,
            "seed": spec.seed,
            "signed_by": self._artefact.key,
        }
        return _json({**self._named, **told})

    async def _metrics_told(self, request: web.Request) -> web.Response:
        for reason in Refusal:
            self._metrics.total(MODELS_REFUSED, REFUSED[reason.value], reason.value)
        text, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _predict(self, request: web.Request) -> web.Response:
        body = _asked(await request.read())
        began_s = perf_counter()
        answer = predict(self._policy, body.observation)
        self._metrics.observe(MODEL_INFERENCE, perf_counter() - began_s, self._artefact.name)
        if answer is None:
            raise Unanswerable(500, RefusalCode.MODEL_INVALID, "The model's values for this are not finite.")
        return _json({**answer._asdict(), "targets": TARGETS, **self._named})


def _asked(body: bytes) -> PredictBody:
    """Return the request's body. Raises Unanswerable."""
    try:
        content = json.loads(body, object_pairs_hook=_without_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        told = ascii(str(error))[1:-1][:160]
        raise Unanswerable(400, RefusalCode.NOT_JSON, f"The body is not JSON that says one thing: {told}.") from error
    try:
        return PredictBody.model_validate(content)
    except ValidationError as error:
        raise Unanswerable(422, RefusalCode.NOT_AN_OBSERVATION, _sentence(error)) from error


def _without_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ascii(".".join(map(str, first["loc"])))[1:-1][:160] or "the body"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{place}: {reason[0].lower()}{reason[1:]}."


@web.middleware
async def _one_error(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer whatever goes wrong in one form, and never with a traceback."""
    try:
        return await handler(request)
    except Unanswerable as error:
        return _refused(error)
    except web.HTTPException as error:
        return _refused(_as_refusal(error))
    except Exception:
        _LOG.exception("a request could not be answered")
        return _refused(Unanswerable(500, RefusalCode.INTERNAL, "This is a fault of ours; the log has it."))


def _as_refusal(error: web.HTTPException) -> Unanswerable:
    if error.status == 404:
        return Unanswerable(404, RefusalCode.NOT_FOUND, _THERE_ARE)
    if error.status == 405:
        return Unanswerable(405, RefusalCode.NOT_ALLOWED, _THERE_ARE)
    if error.status == 413:
        return Unanswerable(413, RefusalCode.TOO_LARGE, f"A body has at most {BODY_BYTES_MAX} bytes.")
    return Unanswerable(error.status, RefusalCode.BAD_REQUEST, f"{error.reason}.")


def _refused(error: Unanswerable) -> web.Response:
    return _json({"error": {"code": error.code, "message": str(error)}}, error.status)


def _json(content: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(content), status=status, content_type="application/json")
