"""Feed TraderMind from another system: write trades to the public ingress topic. Imports nothing of TraderMind.

    python docs/examples/produce_trades.py BROKER REGISTRY_URL INSTRUMENT PRICE COUNT

It needs confluent-kafka and fastavro. Prices and quantities are integers in units of 1e-8; the event id is yours and
makes a re-send harmless.
"""

import io
import json
import sys
import time
import urllib.request

import fastavro
from confluent_kafka import Producer

BROKER, REGISTRY, INSTRUMENT, PRICE, COUNT = sys.argv[1:6]
TOPIC = "tradermind.ingest.trade.v1"
answer = json.load(urllib.request.urlopen(f"{REGISTRY}/subjects/{TOPIC}-value/versions/latest", timeout=10))
schema_id, schema = answer["id"], fastavro.parse_schema(json.loads(answer["schema"]))
failed = []
producer = Producer({"bootstrap.servers": BROKER, "partitioner": "murmur2_random", "enable.idempotence": True})
for number in range(int(COUNT)):
    now_ns = time.time_ns()
    trade = {
        "event_id": f"produce-trades/{now_ns}/{number}",
        "instrument": INSTRUMENT,
        "event_time_ns": now_ns,
        "trade_id": str(number),
        "price": round(float(PRICE) * 1e8),
        "quantity": 1_000_000,
        "aggressor": "BUY" if number % 2 else "SELL",
    }
    body = io.BytesIO(b"\0" + schema_id.to_bytes(4, "big"))
    body.seek(5)
    fastavro.schemaless_writer(body, schema, trade)
    producer.produce(TOPIC, body.getvalue(), key=INSTRUMENT, on_delivery=lambda error, _: error and failed.append(error))
    producer.poll(0)
unsent = producer.flush(30)
print(f"{int(COUNT) - unsent - len(failed)} trades written, {unsent + len(failed)} not")
sys.exit(1 if unsent or failed else 0)
