"""Settings: `base` is shared, and there is one module for each way of running Quarterdeck.

`production` is the default (`make run`, containers), `development` reloads and prints readable logs, `test` is
for pytest.
"""
