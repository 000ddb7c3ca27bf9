"""Risk: the only part that sizes. A target becomes an approved order, or a denial with every reason."""
