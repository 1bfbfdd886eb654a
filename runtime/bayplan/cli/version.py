"""The version, of which pyproject.toml has the same."""

VERSION = "0.1.0"
