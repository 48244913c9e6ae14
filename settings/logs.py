"""Logs: one line for each event, with a stable name; JSON for machines, text for people."""

import logging.config
import re
import time

import structlog
from structlog.typing import EventDict, Processor

# What two lines that say the same differ in.
OF_ONE_LINE = ("timestamp", "request_id")
# How the system and SQLite say that a disk is full, and Django that it answered so.
DISK_FULL = ("No space left on device", "database or disk is full", "Insufficient Storage: ", "'code': 507")
# What those see who ask whether the service is ready, every few seconds.
NOT_READY = ("Service Unavailable: /healthz/ready", "'request': 'GET /healthz/ready")


class Repeats(logging.Filter):
    """Drops what says the same as a moment ago: errors for a second, a full disk and a failing probe for a minute.

    A cluster that can't write tries again twice a second, for as long as that lasts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        message: object = record.msg
        if isinstance(message, dict):
            # An event of structlog's.
            message = {name: value for name, value in message.items() if name not in OF_ONE_LINE}
        else:
            message = record.getMessage()
        words = f"{message} {record.exc_info[1] if record.exc_info else ''}"
        if any(sentence in words for sentence in DISK_FULL):
            key, seconds = "full", 60.0
        elif any(sentence in words for sentence in NOT_READY):
            key, seconds = "not ready", 60.0
        elif record.levelno < logging.ERROR:
            return True
        else:
            key, seconds = f"{record.name} {words}", 1.0
        now = time.monotonic()
        if now - self.passed.get(key, -seconds) < seconds:
            return False
        if len(self.passed) > 1000:
            self.passed.clear()
        self.passed[key] = now
        return True


# In addresses: an ID, which may be a person's e-mail address, and the parameters that name one.
_IDS = re.compile(r"(?<![0-9])(/ids/)[^?\s'\"]+|\b((?:external_id|q)=)[^&\s'\"]+")
MASK = "***"


def mask_ids(_: object, __: str, event: EventDict) -> EventDict:
    """Leave IDs out of the addresses in a line: what is personal in them is nobody's business who reads logs."""
    for name, value in event.items():
        if isinstance(value, str) and ("/ids/" in value or "external_id=" in value or "q=" in value):
            event[name] = _IDS.sub(lambda match: f"{match[1] or match[2]}{MASK}", value)
    return event


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    mask_ids,
]


def configure_logs(*, level: str, form: str) -> None:
    """Send records of structlog and of the standard library to stderr in one format. form: "json" or "text"."""
    last: list[Processor]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The default, which prints all local variables, takes half a minute for the traceback of a page.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
                "foreign_pre_chain": SHARED,
            },
        },
        "filters": {"repeats": {"()": Repeats}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["repeats"]},
        },
        "root": {"handlers": ["stderr"], "level": level},
        # Its "processed" and "recycled" lines for each job would drown our own events.
        "loggers": {"django-q": {"level": max(level, "WARNING", key=logging.getLevelName)}},
    })  # fmt: skip
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
