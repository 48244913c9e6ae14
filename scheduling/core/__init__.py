"""Pure rules, standard library only: clock, keys, allocator, pacing, retry delays, errors."""
