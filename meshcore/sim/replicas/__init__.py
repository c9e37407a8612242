"""One replicated group in virtual time: faults, clients, and a checker that looks from outside."""
