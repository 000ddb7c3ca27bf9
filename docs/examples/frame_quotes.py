"""Make quotes for kcat, so many a second, with a delimiter after each. Imports nothing of TraderMind.

    python docs/examples/frame_quotes.py REGISTRY_URL INSTRUMENT PRICE RATE SECONDS |
        kcat -P -b BROKER -t tradermind.ingest.quote.v1 -k INSTRUMENT -D '<|next|>'

It needs fastavro. A record's bytes may hold any single byte, so the delimiter is a word that none of them holds.
"""

import io
import json
import sys
import time
import urllib.request

import fastavro

REGISTRY, INSTRUMENT, PRICE, RATE, SECONDS = sys.argv[1:6]
DELIMITER = b"<|next|>"
TOPIC = "tradermind.ingest.quote.v1"
answer = json.load(urllib.request.urlopen(f"{REGISTRY}/subjects/{TOPIC}-value/versions/latest", timeout=10))
schema = fastavro.parse_schema(json.loads(answer["schema"]))
head = b"\0" + answer["id"].to_bytes(4, "big")
run, began, middle = time.time_ns(), time.monotonic(), round(float(PRICE) * 1e8)
for number in range(int(RATE) * int(SECONDS)):
    step = 1_000_000 * (number % 5)
    quote = {
        "event_id": f"kcat/{run}/{number}",
        "instrument": INSTRUMENT,
        "event_time_ns": time.time_ns(),
        "bid_price": middle + step - 1_000_000,
        "bid_quantity": 100_000_000,
        "ask_price": middle + step + 1_000_000,
        "ask_quantity": 100_000_000,
    }
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, quote)
    sys.stdout.buffer.write(head + body.getvalue() + DELIMITER)
    if (early := began + (number + 1) / int(RATE) - time.monotonic()) > 0:
        sys.stdout.buffer.flush()
        time.sleep(early)
