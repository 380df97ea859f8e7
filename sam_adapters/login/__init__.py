"""Names and passwords, for the hospital's server and for the federation's page: user file, login desk, lock-out. No torch."""
