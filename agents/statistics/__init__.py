"""What may be said of results: intervals by days and pairs, Sharpe ratios that know how often was tried, drawdowns."""
