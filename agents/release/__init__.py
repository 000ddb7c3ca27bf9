"""What decides whether a model may act: its paper result beside the champion's, and whether its inputs still hold."""
