"""The client: one core behind two faces, a network thread's and an event loop's."""
