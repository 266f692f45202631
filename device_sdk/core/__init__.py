"""The protocol's machines, sans-IO: time, ids, messages come in; effects and deadlines out."""
