"""The ``bellwire-broker`` command."""


def main() -> int:
    """Not there yet."""
    return 2
