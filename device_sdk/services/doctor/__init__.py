"""From the settings to the first fault on the way to a call."""
