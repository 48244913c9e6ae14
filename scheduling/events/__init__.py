"""Events and alerts on their way to others: recorded with what causes them, delivered to channels, and retried."""
