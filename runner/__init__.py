"""Web and workers by one command: what `make run` starts.

`python -m runner` prepares the data, then keeps the web server and both clusters alive until it is told
to stop. `python -m runner web`, `... quarterdeck`, `... minutes` keep one of them alive (a container
each), and `python -m runner prepare` only prepares. `python -m runner demo` adds invented data and a
generator of more.

    __main__    what is asked for, and whether it can be
    prepare     migrations, schedules, static files, the first operator
    supervisor  starts the children, starts them again, ends them
    watch       signs of life: who is stuck
    keeper      ends the children when the supervisor itself was killed
    lock        one runner on one DATA_DIR
    broker      inside the clusters: where their signs of life come from

All but `prepare` and `broker` are standard library only: a supervisor has to stand when what it
supervises falls.
"""
