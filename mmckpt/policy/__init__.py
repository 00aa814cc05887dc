"""When to save and which files to keep: pure Python, no torch, no IO."""
