"""The web server and both clusters in one command: what `make run` starts.

`python -m runner` prepares the data directory and the database, then keeps the web server and both clusters
running until it is told to stop. `python -m runner web`, `... quarterdeck` and `... minutes` keep one of
them running (one for each container), and `python -m runner prepare` only prepares. `python -m runner demo`
adds sample data and keeps generating more.

    __main__    the command line
    programs    what the children run: loaded once, and shared by all, since each child is a fork
    cluster     a django-q2 cluster with as few processes as it needs
    broker      inside the clusters: writes their heartbeats
    prepare     migrations, schedules, static files, the first operator
    supervisor  starts, restarts and stops the child processes
    watch       heartbeats: which child is stuck
    keeper      stops the children if the supervisor itself is killed
    leftovers   removes processes and files that an earlier run left behind
    lock        one runner for each DATA_DIR
    names       the names of processes
    stop        signals

The modules from `supervisor` on use only the standard library. They keep no connection to the database, and start no
thread: a fork would copy both.
"""
