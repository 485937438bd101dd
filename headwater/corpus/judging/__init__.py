"""What a text is like: language, scripts, length, statistics, quality rules, score."""
