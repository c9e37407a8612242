"""Leases that somebody else gives: who has one may lead, and its number is the term."""
