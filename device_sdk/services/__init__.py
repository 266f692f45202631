"""A doorbell and a panel as services, for a Raspberry Pi or a laptop's keyboard (extra ``pi``).

::

    settings -> doorbell_settings panel_settings   one TOML file in, frozen dataclasses out
    debounce lights doorbell panel                 pure: time in, effects out, no thread, no pin
    pins gpiod_pins keyboard                       where edges come from and levels go
    link                                           the signalling client, as the services need it
    actions notify loop                            commands and web hooks, systemd, the one loop
    doorbell_service panel_service                 the above, wired
    bootfs provision wheels doctor                 a card made ready; what is wrong, in one line

The rest of ``device_sdk`` knows nothing of this package, and gpiozero is imported only when a
pin is opened.
"""
