"""What stands between a platform and its start, found before the start: what ``tradermind doctor`` runs."""
