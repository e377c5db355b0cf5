"""The `kan-fast` command."""


def main() -> None:
    """Placeholder until the commands exist."""
