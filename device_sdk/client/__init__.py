"""The client: one core behind two clients, a network thread's and an event loop's."""
