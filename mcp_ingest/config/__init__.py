"""The configuration: its model, its loading with line numbers, its checks."""
