"""Measurements that anyone can repeat: `make bench`. Nothing here is asserted by a test."""
