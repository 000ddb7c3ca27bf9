"""The twelve boards, one module each."""
