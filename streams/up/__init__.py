"""The platform on one machine for good: what ``tradermind up`` runs, kept over a stop, a crash and a new version."""
