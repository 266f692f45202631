"""What stands on the wire: topics, cells and their CBOR (docs/protocol.md)."""
