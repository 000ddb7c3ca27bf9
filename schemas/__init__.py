"""The language of TraderMind: event types, the topic table and the Avro codec. Imports no sibling, does no I/O."""
