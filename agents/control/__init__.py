"""People: their commands become events, once each."""
