"""What survives the broker: the journal in SQLite."""
