"""The broker as its owner meets it: commands, settings, serving, looking after it."""
