"""Sockets, TLS and WebSocket around the core, and amqtt's configuration and plugins."""
