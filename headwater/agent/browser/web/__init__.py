"""Pages of the web, asked for by a model: only from public addresses, bounded in size and time."""
