"""State that outlives the process: SQLite for records, plain files for bytes."""
