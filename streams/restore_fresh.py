"""A new database on a broker that was used before: its shards begin at the ends of the logs, after all that was."""

from infra.kafka import log_ranges, topic_partitions
from infra.kafka_remake import set_offsets
from infra.settings import Settings, SettingsError
from schemas.topics import TOPICS
from streams.composition import compose
from streams.restore import RestoreOrder, RestoreRefused, Restoring
from streams.restore_money import SINKS
from streams.sinks import SINK_TOPICS


def begin_at_the_end(settings: Settings) -> int:
    """Give every shard of a run whose database is empty its place; return how many records lie before it.

    Where nothing was ever written nothing is done. Raises SettingsError while another run is at work on the broker.
    """
    from streams.launch import engine_settings, feed_shard, shard_hostings

    run = compose(settings)
    engine = engine_settings(settings, embedded=False, instance_id=None, offline=True)
    there = topic_partitions(engine.bootstrap, engine.security)
    slots = [(name, number) for name in {*TOPICS, *SINK_TOPICS} for number in range(there.get(name, 0))]
    ranges = log_ranges(engine.bootstrap, slots, engine.security)
    before = sum(end for _, end in ranges.values())
    if not before:
        return 0
    order = RestoreOrder(author="demo", why="a new run on a broker that was used before", quiet_s=0.0)
    hostings = shard_hostings(run, engine.dsn)
    try:
        Restoring(engine, hostings, order, lambda _: None, feeds=(feed_shard(run),)).run()
    except RestoreRefused as refusal:
        raise SettingsError(f"The broker at {engine.bootstrap} is in use: {refusal}") from refusal
    places = {slot: end for slot, (_, end) in ranges.items() if slot[0] in SINK_TOPICS}
    set_offsets(engine.bootstrap, SINKS, places, engine.security)
    return before
