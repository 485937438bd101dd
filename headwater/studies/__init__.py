"""Claims of the field as studies: each prints its table, draws its plot and says what it expects."""
