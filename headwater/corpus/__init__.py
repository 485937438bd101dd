"""Raw documents to clean text: read, extract, identify the language, filter, deduplicate, split."""
