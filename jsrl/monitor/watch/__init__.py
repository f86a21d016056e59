"""Watching a policy: while it trains, where it is deployed, or in an audit of recorded episodes."""
