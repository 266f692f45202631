"""The broker without I/O: bytes, verdicts, commits and time in; what to send, keep and ask out."""
