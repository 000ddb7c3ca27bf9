"""The inference service: the decider's own answer to the bit, and one clear error for everything else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from model_artefacts import KEYS, small_artefact
from model_office import policy_artefact
from money_events import entry
from release_train import Train
from set_policies import constant, observation, votes

from agents.decider.encoding import encode
from agents.decider.policy import TARGETS
from agents.decider.policy_source import ModelName, ModelTerms
from agents.decider.set_policy import SetPolicy
from agents.decider.stage import Decider
from infra.artefacts import Artefact, ArtefactRefused, read_artefact
from infra.models.store import ModelStore
from schemas.decisions import Decision
from streams.inference import BODY_BYTES_MAX, InferenceServer, PredictBody, RefusalCode, predict
from streams.policies import StoredPolicies

CODES = {code.value for code in RefusalCode}


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """A model that reads what the decider gives."""
    store = tmp_path_factory.mktemp("models")
    return read_artefact(store, policy_artefact(store, "swan", seed=5), KEYS)


def served(artefact: Artefact, talk: Callable[[TestClient[Any, Any]], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with TestClient(TestServer(InferenceServer(artefact).application())) as client:
            return await talk(client)

    return asyncio.run(run())


def answers(artefact: Artefact, *bodies: bytes) -> list[tuple[int, Any]]:
    """Return status and JSON of each body's answer."""

    async def talk(client: TestClient[Any, Any]) -> list[tuple[int, Any]]:
        found = []
        for body in bodies:
            async with client.post("/predict", data=body) as response:
                assert response.content_type == "application/json"
                found.append((response.status, await response.json()))
        return found

    result: list[tuple[int, Any]] = served(artefact, talk)
    return result


def asked(seen: dict[str, float | None]) -> bytes:
    return json.dumps({"observation": seen}).encode()


@pytest.mark.parametrize("seed", [1, 2, 10])
def test_the_answer_is_the_deciders_own_decision_to_the_bit(seed: int, tmp_path: Path) -> None:
    """A decider with the artefact as its champion decides 60 tallies; the service is asked what each decision saw."""
    sha256 = policy_artefact(tmp_path, "swan", seed=seed)
    store = ModelStore(tmp_path, KEYS)
    decisions = decided_by(StoredPolicies(store), sha256)
    assert len({decision.target for decision in decisions}) > 1, "a policy that wants one thing proves nothing"
    artefact = store.read(sha256)
    policy = SetPolicy(artefact.name, artefact.weights)
    for decision, (status, answer) in zip(
        decisions, answers(artefact, *(asked(dict(item.observation)) for item in decisions)), strict=True
    ):
        assert (status, answer["model"], answer["sha256"]) == (200, "swan", sha256)
        assert answer["target"] == decision.target
        assert answer["q_values"] == policy.q_values(encode(decision.observation)).tolist()
        assert answer["targets"] == [-1.0, -0.5, 0.0, 0.5, 1.0]


def decided_by(source: StoredPolicies, sha256: str) -> list[Decision]:
    """Return what a decider with this champion decides on 60 different tallies."""
    train = Train({})
    terms = ModelTerms(champion=ModelName("swan", sha256), drift=None)
    train.stage = Decider(replace(train.config, source=source, models=terms))
    found = []
    for number in range(60):
        up = 0.1 + 0.8 * ((number * 37) % 60) / 60
        down = (1 - up) / 2
        said = (entry("momentum", up, down), entry("order_flow", down, up))
        found.append(train.decided(up=up, down=down, entries=said, volatility=0.0003))
    assert all(decision.policy == "swan" for decision in found)
    return found


def test_a_target_is_held_to_what_is_allowed(artefact: Artefact) -> None:
    best = constant((0.0, 0.0, 0.0, 0.0, 1.0))
    policy = SetPolicy("long", best)
    free = predict(policy, {})
    held = predict(policy, {"allowed.low": -0.5, "allowed.high": 0.25})
    assert free is not None and held is not None
    assert (free.target, held.wanted, held.target) == (1.0, 1.0, 0.25)
    equal = SetPolicy("equal", constant((1.0, 1.0, 0.0, 1.0, 1.0)))
    for target, wanted in ((0.9, 1.0), (-0.4, -0.5)):
        answer = predict(equal, {"target": target})
        assert answer is not None
        assert answer.wanted == wanted


def test_health_and_the_model(artefact: Artefact) -> None:
    async def talk(client: TestClient[Any, Any]) -> tuple[Any, Any]:
        async with client.get("/healthz") as health, client.get("/model") as model:
            return await health.json(), await model.json()

    health, model = served(artefact, talk)
    assert health == {"status": "ok", "model": "swan", "sha256": artefact.sha256}
    assert (model["schema"], model["signed_by"], model["trials"]) == (artefact.spec.schema, "development", 3)


def test_it_tells_how_long_answers_took_and_what_was_refused(artefact: Artefact) -> None:
    async def talk(client: TestClient[Any, Any]) -> str:
        async with client.post("/predict", json={"observation": {}}) as answer:
            assert answer.status == 200
        async with client.get("/metrics") as told:
            return await told.text()

    told = served(artefact, talk)
    assert 'tradermind_model_inference_seconds_count{policy="swan"} 1.0' in told
    assert 'tradermind_models_refused_total{reason="BAD_SIGNATURE"}' in told


BAD: dict[str, tuple[bytes, int, RefusalCode]] = {
    "nothing": (b"", 400, RefusalCode.NOT_JSON),
    "no JSON": (b"{", 400, RefusalCode.NOT_JSON),
    "no UTF-8": (b'{"observation": {"\xff": 1}}', 400, RefusalCode.NOT_JSON),
    "deep": (b"[" * 100_000, 400, RefusalCode.NOT_JSON),
    "NaN": (b'{"observation": {"target": NaN}}', 400, RefusalCode.NOT_JSON),
    "infinity": (b'{"observation": {"target": 1e999}}', 422, RefusalCode.NOT_AN_OBSERVATION),
    "a huge integer": (b'{"observation": {"target": 1' + b"0" * 400 + b"}}", 422, RefusalCode.NOT_AN_OBSERVATION),
    "a longer integer": (b'{"observation": {"target": 1' + b"0" * 5_000 + b"}}", 400, RefusalCode.NOT_JSON),
    "a key twice": (b'{"observation": {"a": 1, "a": 2}}', 400, RefusalCode.NOT_JSON),
    "a list": (b"[]", 422, RefusalCode.NOT_AN_OBSERVATION),
    "no observation": (b"{}", 422, RefusalCode.NOT_AN_OBSERVATION),
    "more": (b'{"observation": {}, "order": "buy"}', 422, RefusalCode.NOT_AN_OBSERVATION),
    "text": (b'{"observation": {"target": "1"}}', 422, RefusalCode.NOT_AN_OBSERVATION),
    "a truth": (b'{"observation": {"target": true}}', 422, RefusalCode.NOT_AN_OBSERVATION),
    "half allowed": (b'{"observation": {"allowed.low": 0}}', 422, RefusalCode.NOT_AN_OBSERVATION),
    "allowed upside down": (
        b'{"observation": {"allowed.low": 0.5, "allowed.high": 0}}',
        422,
        RefusalCode.NOT_AN_OBSERVATION,
    ),
    "too many numbers": (
        json.dumps({"observation": {f"n{number}": 0 for number in range(5_000)}}).encode(),
        422,
        RefusalCode.NOT_AN_OBSERVATION,
    ),
    "too much": (b" " * (BODY_BYTES_MAX + 1), 413, RefusalCode.TOO_LARGE),
}


@pytest.mark.parametrize("how", BAD)
def test_what_is_no_observation_gets_one_clear_error(how: str, artefact: Artefact) -> None:
    body, status, code = BAD[how]
    ((found, answer),) = answers(artefact, body)
    assert (found, answer["error"]["code"]) == (status, code), answer
    message = answer["error"]["message"]
    assert message.endswith(".")
    assert len(message) < 400
    assert "Traceback" not in message


def test_other_paths_and_methods_get_the_same_kind_of_error(artefact: Artefact) -> None:
    async def talk(client: TestClient[Any, Any]) -> list[tuple[int, Any]]:
        found = []
        for method, path in (("GET", "/"), ("GET", "/predict"), ("DELETE", "/model"), ("POST", "/predict/../x")):
            async with client.request(method, path) as response:
                found.append((response.status, (await response.json())["error"]["code"]))
        return found

    assert served(artefact, talk) == [
        (404, "NOT_FOUND"),
        (405, "NOT_ALLOWED"),
        (405, "NOT_ALLOWED"),
        (404, "NOT_FOUND"),
    ]


def test_a_model_of_other_features_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ArtefactRefused, match="WRONG_SCHEMA"):
        InferenceServer(read_artefact(tmp_path, small_artefact(tmp_path), KEYS))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=20)
@given(bodies=st.lists(st.binary(max_size=64) | _JSON.map(lambda content: json.dumps(content).encode()), max_size=8))
def test_whatever_is_sent_an_answer_or_one_error_comes_back(bodies: list[bytes], artefact: Artefact) -> None:
    for status, answer in answers(artefact, *bodies):
        if status == 200:
            assert answer["target"] in answer["targets"]
        else:
            assert answer["error"]["code"] in CODES - {RefusalCode.INTERNAL.value}


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(observation(votes(1, 3)))), st.none() | st.floats(-1e300, 1e300)))
def test_any_numbers_of_an_observation_give_an_answer(artefact: Artefact, seen: dict[str, float | None]) -> None:
    for name in ("allowed.low", "allowed.high"):
        seen.pop(name, None)
    body = PredictBody.model_validate(json.loads(asked(seen)))
    answer = predict(SetPolicy(artefact.name, artefact.weights), body.observation)
    assert answer is not None
    assert answer.target in TARGETS


def test_clients_of_another_process_are_answered(artefact: Artefact) -> None:
    async def run() -> Any:
        server = TestServer(InferenceServer(artefact).application())
        await server.start_server()
        try:
            async with (
                ClientSession() as session,
                session.post(server.make_url("/predict"), json={"observation": {}}) as got,
            ):
                return await got.json()
        finally:
            await server.close()

    assert asyncio.run(run())["sha256"] == artefact.sha256
