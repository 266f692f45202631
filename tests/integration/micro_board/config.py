"""What an owner writes into config.py, from the environment."""

import os

ssid = key = password = None
me = os.getenv("ME")
host = "127.0.0.1"
port = int(os.getenv("PORT"))
realm = os.getenv("REALM")
panel = "kitchen"
