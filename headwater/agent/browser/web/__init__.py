"""Pages of the web, asked for by a model: only from public addresses, bounded in size and time."""

from headwater.errors import MissingExtraError

try:
    import httpcore  # noqa: F401 - what every module here rests on, asked for before any of them
    import idna  # noqa: F401
except ImportError as missing:
    raise MissingExtraError(f"fetching pages needs httpcore and idna ({missing})",
                            fix="pip install 'headwater[agent]'") from missing
