"""The bundled MQTT broker and its set-up: the part that goes on the broker's machine."""
