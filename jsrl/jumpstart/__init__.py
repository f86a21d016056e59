"""The method itself: when the guide hands over to the exploration-policy."""
