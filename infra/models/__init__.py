"""Artefacts of models: what one is made of, how its parts are read without trusting them, and where it lies."""
