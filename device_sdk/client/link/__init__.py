"""The connection to a broker: what a link is, and paho-mqtt's as the one that ships."""
