"""The stream engine: one transport and one wrapper around every stage (DESIGN 4). It knows no particular stage."""
