"""Files of dialogues: their rows, the forms in which they are published, copies and leaks among them."""
