"""Which integer fields of the events are prices or quantities in units of 1e-8: what a record shows as decimals."""

from typing import Final

_NAMES: Final = """
    price quantity mid bid_price bid_quantity ask_price ask_quantity volume open_price high_price low_price close_price
    flat_band spread limit_price stop_price decision_mid filled_quantity leaves_quantity average_price position_after
    working_after position working entry_price exit_price move tick_size lot_size quantity_min quantity_max
    pending_quantity pending_price
"""
UNIT_FIELDS: Final = frozenset(_NAMES.split())
