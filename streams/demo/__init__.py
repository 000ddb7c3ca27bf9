"""The whole platform on one machine for a while: what `make demo` runs, and how people see what it did."""
