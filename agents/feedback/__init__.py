"""Feedback: what came of votes, decisions and trades, so that weights and policies can learn from it."""
