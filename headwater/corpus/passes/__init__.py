"""The passes over all units: spread over workers, committed part by part."""
