"""The servers that a run or a test starts for itself: broker, Kafka, Postgres. Loopback ports, stopped by pid."""
