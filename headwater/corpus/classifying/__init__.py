"""Texts judged by trained classifiers: machine-made, misread, abusive; and how they are trained."""
