"""Span dialects: how a call is written into span attributes and read back. One file a dialect, all pure."""
