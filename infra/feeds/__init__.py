"""Where market data comes from: recorded captures, a live venue, the simulated market.

A feed hands over ``schemas.feed.FeedRecord`` in the order of receipt, and decides nothing about them.
"""


class FeedFailed(Exception):
    """A feed that cannot be opened or read, in one clear sentence."""
