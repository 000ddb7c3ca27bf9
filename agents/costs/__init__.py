"""What trading costs: measured on each order, and estimated for the next."""
