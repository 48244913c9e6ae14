"""Serve one minute: claim, send, record, recover."""
