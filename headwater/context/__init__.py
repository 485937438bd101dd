"""Long contexts: what a model's positions support, and how to reach further."""
