"""Operations on queues, and what their fields may hold."""
