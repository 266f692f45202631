"""Call signalling over MQTT for things with buttons: the part that goes on the device."""
