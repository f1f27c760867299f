"""Work requests of the Data Science service: what runs behind a 202."""
