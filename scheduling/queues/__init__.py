"""Operations on queues, and the values of their fields."""
