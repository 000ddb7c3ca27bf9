"""The stages' own metrics: what each emits and keeps, as numbers that people watch."""
