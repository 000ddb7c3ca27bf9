"""Reward: what the components of an Experience are worth to whoever learns from them."""
