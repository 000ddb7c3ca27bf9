"""The platform from one seed: the real engine and stages over a simulated log, database and venue, on virtual time."""
