"""A memory card that becomes a doorbell, a panel or a broker at its first boot."""
