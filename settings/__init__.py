"""How Quarterdeck is set up: `base` for all, one module for each way of running it.

`production` is the default (`make run`, containers), `development` reloads and talks, `test` is for pytest.
"""
