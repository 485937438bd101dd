"""Image generation: CogView 3 out of a local folder, as the tool `cogview`."""
