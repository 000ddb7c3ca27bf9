"""Read a topic of TraderMind so that every event has its effect once. Imports nothing of TraderMind.

    python docs/examples/read_once.py BROKER REGISTRY_URL TOPIC DATABASE.sqlite

It needs confluent-kafka and fastavro, reads to the end of the log, and goes on from there the next time. The rule: per
(topic, partition, source) keep the last (generation, seq) and drop what is not above it, and keep it in the same
transaction as the effect. A kill at any moment then loses nothing and repeats nothing.
"""

import io
import json
import sqlite3
import sys
import urllib.request

import fastavro
from confluent_kafka import Consumer, KafkaError, TopicPartition

BROKER, REGISTRY, TOPIC, DATABASE = sys.argv[1:5]
database = sqlite3.connect(DATABASE)
database.executescript("""
CREATE TABLE IF NOT EXISTS effect (event_id TEXT, record TEXT, instrument TEXT, place TEXT);
CREATE TABLE IF NOT EXISTS seen (partition INT, source TEXT, generation INT, seq INT, PRIMARY KEY (partition, source));
CREATE TABLE IF NOT EXISTS next_offset (partition INT PRIMARY KEY, number INT);
""")
schemas = {}


def decoded(value: bytes) -> tuple[str, dict]:
    number = int.from_bytes(value[1:5], "big")
    if number not in schemas:
        answer = json.load(urllib.request.urlopen(f"{REGISTRY}/schemas/ids/{number}", timeout=10))
        schemas[number] = fastavro.parse_schema(json.loads(answer["schema"]))
    return schemas[number]["name"].rpartition(".")[2], fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[number])


def is_new(partition: int, event: dict) -> bool:
    position = (event["generation"], event["seq"])
    query = "SELECT generation, seq FROM seen WHERE partition = ? AND source = ?"
    last = database.execute(query, (partition, event["source"])).fetchone()
    if last is not None and position <= last:
        return False
    database.execute("REPLACE INTO seen VALUES (?, ?, ?, ?)", (partition, event["source"], *position))
    return True


consumer = Consumer({"bootstrap.servers": BROKER, "group.id": "read-once", "enable.auto.commit": False,
                     "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.partition.eof": True})
known = dict(database.execute("SELECT partition, number FROM next_offset"))
partitions = list(consumer.list_topics(TOPIC, 10).topics[TOPIC].partitions)
consumer.assign([TopicPartition(TOPIC, number, known.get(number, 0)) for number in partitions])
ended, effects, dropped = set(), 0, 0
while len(ended) < len(partitions):
    message = consumer.poll(30)
    if message is None or message.error():
        assert message is not None and message.error().code() == KafkaError._PARTITION_EOF, message and message.error()
        ended.add(message.partition())
        continue
    record, event = decoded(message.value())
    with database:  # One transaction: the effect, what was seen, and where to read on.
        if is_new(message.partition(), event):
            effects += 1
            place = f"{message.partition()}/{message.offset()}"
            database.execute("INSERT INTO effect VALUES (?, ?, ?, ?)", (event["event_id"], record, event["key"], place))
        else:
            dropped += 1
        database.execute("REPLACE INTO next_offset VALUES (?, ?)", (message.partition(), message.offset() + 1))
consumer.close()
print(f"{effects} effects, {dropped} dropped as seen before")
