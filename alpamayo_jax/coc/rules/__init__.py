"""A labeller that needs no model: rules over the annotated road users, the map and the events."""
