"""A deterministic simulation of the real code under faults: `make storm`, and `docs/development.md`.

A seed makes a world: its own clock, a few queues, operators who act at random, minute workers and senders that are
the real ones, targets in trouble, jobs that are lost, processes that freeze or die. Then the faults stop, and
everything must come to an end.
"""
