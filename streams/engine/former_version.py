"""What another version of the code has sent after the checkpoint is not sent again.

Its numbers are taken: a reader would drop the same numbers with other contents, or take half of them. The new version
steps the records again, for its state, and keeps silent on each output lane as far as the old one had come there.
"""

import logging
from typing import Final

from infra.kafka_watermarks import watermarks
from infra.postgres.checkpoints import Checkpoint, RunFacts
from schemas.event import ORDINALS_PER_OFFSET
from streams.engine.lane import lane_of, output_lanes
from streams.engine.log_reader import LogReader
from streams.engine.ports import EngineSettings
from streams.engine.shard import ShardCore

LOG: Final = logging.getLogger("tradermind.worker")


def is_other_version(checkpoint: Checkpoint, facts: RunFacts) -> bool:
    """Return whether the shard was last held by other code or under other settings."""
    return (checkpoint.code_version, checkpoint.settings_hash) != (facts.code_version, facts.settings_hash)


def silence_former_outputs(core: ShardCore, partition: int, engine: EngineSettings) -> None:
    """Note per output lane the highest input offset whose outputs lie there already. Blocks while it reads."""
    progress, read = core.progress, (core.shard.rpartition("/")[0], partition)
    first, last = watermarks(engine.bootstrap, [read], engine.security)[read]
    if progress.next_offsets.get(lane_of(*read), first) >= last:
        return  # Nothing is stepped a second time: what was sent of it lies before the checkpoint.
    lanes = output_lanes(core.hosting, partition, engine.instrument_partitions)
    for (topic, number), (_, end) in watermarks(engine.bootstrap, lanes, engine.security).items():
        known = progress.output_ends.get(lane_of(topic, number), 0)
        if known >= end:
            continue
        reader = LogReader(engine.bootstrap, (topic, number), known, engine.security)
        while (record := reader.next()) is not None:
            event = engine.codec.decode(record.topic, record.value, record.headers)
            if event.source == core.source and event.generation == core.generation:
                lane = lane_of(topic, number)
                progress.silent[lane] = max(event.seq // ORDINALS_PER_OFFSET, progress.silent.get(lane, -1))
        reader.close()


def tell_change(core: ShardCore, checkpoint: Checkpoint, facts: RunFacts) -> None:
    """Log that another version goes on from here, and what it does not send again."""
    silent = ", ".join(f"{lane} up to input {offset}" for lane, offset in sorted(core.progress.silent.items()))
    LOG.warning(
        "%s goes on with code %s and settings %s, which were %s and %s; the former has sent %s",
        core.source,
        facts.code_version,
        facts.settings_hash,
        checkpoint.code_version,
        checkpoint.settings_hash,
        silent or "nothing after its checkpoint",
    )
