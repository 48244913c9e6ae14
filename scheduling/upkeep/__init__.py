"""Regular work: quarter-hours, reconciliation, retention."""
