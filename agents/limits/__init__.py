"""Hard limits: one pure function that no model can pass, used by risk and once more by execution."""
