"""One time for the whole mesh: `clock` follows the master's, hop by hop."""
