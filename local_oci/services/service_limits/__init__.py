"""The Limits service: how much of each resource the tenancy may have, and has."""
