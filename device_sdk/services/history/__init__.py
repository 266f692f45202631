"""Who rang: one row a call, in SQLite, written beside the service that hears of it."""
