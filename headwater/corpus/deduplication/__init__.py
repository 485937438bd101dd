"""Copies of documents, exact and near, and sentences that many documents share."""
