"""Pins, and what stands in for them on a machine without any."""
