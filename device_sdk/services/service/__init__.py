"""The decisions of doorbell and panel, wired to pins, broker, actions and systemd."""
