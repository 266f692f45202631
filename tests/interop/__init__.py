"""The peer in JavaScript and the one in Python call each other: every scenario, both directions.

``python -m tests.interop`` prints the table; CI runs it.
"""
