"""The ``mmckpt`` command: one file a subcommand."""
