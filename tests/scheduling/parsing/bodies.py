"""Content types, forms, and the IDs of a reading."""

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=frontier"


def form(*parts, boundary="frontier"):
    """parts: (name, content), (name, content, file name) or (name, content, file name, type)."""
    body = b""
    for name, content, *more in parts:
        file_name = f'; filename="{more[0]}"' if more and more[0] is not None else ""
        kind = f"Content-Type: {more[1]}\r\n" if len(more) > 1 else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n{kind}\r\n'
        body += head.encode() + (content.encode() if isinstance(content, str) else content) + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def ids_of(reading):
    return [user_id for block in reading.spool.unique_blocks(1000) for user_id in block]
