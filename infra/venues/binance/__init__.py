"""Binance spot as a venue: signed REST for requests, the WebSocket API's user data stream for what becomes of them."""
