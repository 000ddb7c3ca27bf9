"""What the platform tells of itself to Prometheus: one table of metrics, and the port that serves them."""
