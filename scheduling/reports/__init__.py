"""Everything that only reads, for a page, an export or a metric."""
