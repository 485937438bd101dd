"""The browser: search, open pages, find in them. Offline by default, over an index of the user's own corpus."""
