"""Code of ours that is compiled on the machine it runs on."""
