"""Thousands of real engines against a broker: what a site will feel like, before it is one."""
