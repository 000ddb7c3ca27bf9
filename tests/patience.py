"""How long tests wait for what has to come: so long that only what never comes fails, on a machine that does it all."""

from typing import Final

PATIENCE: Final = 4.0
"""The suite's parts run beside each other, each with whole platforms: bounds that hold alone are stretched by this."""
