"""A Python that a model may use: one session for a conversation, behind walls."""
