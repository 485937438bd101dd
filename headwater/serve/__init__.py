"""The model's faces: an OpenAI-compatible HTTP API with its chat page, and the terminal."""
