"""Binance public market data: spot and USD-M futures."""
