"""Structured logs on standard error: one JSON object a line, or readable lines on a terminal."""

import logging
import sys

import structlog
from structlog.typing import Processor


def set_up(log_format: str, log_level: str) -> None:
    """Send this process's logs, structlog's and the standard library's, through one formatter."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderer: Processor = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)
    for noisy in ("uvicorn", "picows"):  # they warn of every stranger's malformed request, which the metrics count
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for talkative in ("aiobotocore", "botocore"):  # at the level debug they would log what people write
        logging.getLogger(talkative).setLevel(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def set_level(log_level: str) -> None:
    """Log from this level on, for what is logged from now on."""
    logging.getLogger().setLevel(log_level.upper())
