"""Settings in TOML files: frozen dataclasses out, or one error that says where and what."""
