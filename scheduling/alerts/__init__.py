"""Alerts: the conditions that are watched, and the channels to which they are reported."""
