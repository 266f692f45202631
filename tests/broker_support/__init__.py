"""What the broker's tests share: a raw MQTT client, and brokers to point it at."""
