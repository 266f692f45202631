"""A doorbell and a panel as services, for a Raspberry Pi or a laptop's keyboard (extra ``pi``).

::

    config/     one TOML file in, frozen dataclasses out
    logic/      what an appliance decides, pure: time in, effects out, no thread, no pin
    gpio/       where edges come from and levels go: pins, or a keyboard
    service/    the one loop, the client, systemd, commands and web hooks; the above, wired
    web/        a panel's page for browsers (extra ``web``)
    history/    who rang, kept in SQLite
    provision/  a card made ready for its first boot
    doctor/     what is wrong, in one line

The rest of ``device_sdk`` knows nothing of this package, and gpiozero is imported only when a
pin is opened.
"""
