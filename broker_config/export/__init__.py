"""The registry in the words of other brokers: pure texts; `admin.export` makes files of them."""
