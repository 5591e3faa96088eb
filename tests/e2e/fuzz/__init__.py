"""What schemathesis is told of this API: its settings, and hooks that it loads itself."""
