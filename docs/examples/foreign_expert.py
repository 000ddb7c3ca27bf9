"""A foreign expert in one file: reads feature snapshots, writes votes. Imports nothing of TraderMind.

Usage: python docs/examples/foreign_expert.py BROKER REGISTRY_URL NAME informative|uniform
It needs confluent-kafka and fastavro. Stop it with Ctrl-C; the committee goes on without it.
"""

import io
import json
import math
import sys
import time
import urllib.request

import fastavro
from confluent_kafka import Consumer, Producer

BROKER, REGISTRY, NAME, KIND = sys.argv[1:5]
SNAPSHOTS, VOTES = "tradermind.feature.snapshot.v1", "tradermind.ingest.vote.v1"


def schema_of(path: str) -> dict:
    answer = json.load(urllib.request.urlopen(f"{REGISTRY}{path}", timeout=10))
    return {"id": answer.get("id"), "parsed": fastavro.parse_schema(json.loads(answer["schema"]))}


def probabilities(features: dict) -> tuple[float | None, float | None, float | None]:
    """Down, flat, up: with the aggressive trades of 10 s and the heavier side of the book; three None abstain."""
    imbalance, flow = features.get("imbalance_5"), features.get("trade_flow_10s")
    if KIND == "uniform" or imbalance is None or flow is None:
        return (1 / 3, 1 / 3, 1 / 3) if KIND == "uniform" else (None, None, None)
    lean = 0.5 * imbalance + 2.0 * flow
    down, flat, up = math.exp(-0.35 - lean), 1.0, math.exp(-0.35 + lean)
    return down / (down + flat + up), flat / (down + flat + up), up / (down + flat + up)


consumer = Consumer({"bootstrap.servers": BROKER, "group.id": f"foreign-{NAME}", "auto.offset.reset": "latest"})
producer = Producer({"bootstrap.servers": BROKER, "partitioner": "murmur2_random", "linger.ms": 0})
vote, readers = schema_of(f"/subjects/{VOTES}-value/versions/latest"), {}
consumer.subscribe([SNAPSHOTS])
while True:
    message = consumer.poll(1.0)
    if message is None or message.error():
        continue
    schema_id = int.from_bytes(message.value()[1:5], "big")
    if schema_id not in readers:
        readers[schema_id] = schema_of(f"/schemas/ids/{schema_id}")["parsed"]
    if not readers[schema_id]["name"].endswith("FeatureSnapshot"):
        continue
    snapshot = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), readers[schema_id])
    p_down, p_flat, p_up = probabilities(snapshot["features"])
    for question in snapshot["questions"]:
        record = {"event_id": f"{NAME}/{question['ballot_id']}", "instrument": snapshot["key"], "expert": NAME,
                  "event_time_ns": time.time_ns(), "ballot_id": question["ballot_id"],
                  "horizon_ns": question["horizon_ns"], "p_down": p_down, "p_flat": p_flat, "p_up": p_up,
                  "expires_at_ns": snapshot["grid_time_ns"] + question["horizon_ns"], "evidence": {}}
        body = io.BytesIO()
        fastavro.schemaless_writer(body, vote["parsed"], record)
        producer.produce(VOTES, b"\0" + vote["id"].to_bytes(4, "big") + body.getvalue(), key=snapshot["key"])
    producer.poll(0)
