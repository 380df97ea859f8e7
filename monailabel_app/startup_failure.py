"""Makes a start that fails for a setting end with a sentence instead of a traceback."""

import logging


class _SentenceOnly(logging.Filter):
    """Replaces the traceback that uvicorn logs for a failed start."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self._sentence = sentence

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Traceback"):
            record.msg, record.args = f"Cannot start: {self._sentence}", ()
        return True


def explain(sentence: str) -> None:
    """Have uvicorn report the failure that follows as `sentence`. Elsewhere (in a tuning process) this does nothing."""
    logging.getLogger("uvicorn.error").addFilter(_SentenceOnly(sentence))
