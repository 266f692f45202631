"""A bridge between Bellwire and the MQTT broker that Home Assistant has."""
