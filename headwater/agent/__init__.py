"""All Tools: a model that calls tools by itself, and what it may call."""
