"""Private data: found by form and check digits, masked."""
