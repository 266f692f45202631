"""Flash a card, boot it in QEMU, press the button: ``make image-test`` (docs/raspberry-pi.md)."""
