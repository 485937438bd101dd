"""The Atlas: an invented bilingual world with known truth, written as pages, questions, dialogues and preferences."""
