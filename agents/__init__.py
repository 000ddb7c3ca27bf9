"""What decides: pure, synchronous, deterministic stages. Imports ``schemas`` and numpy, and does no I/O."""
