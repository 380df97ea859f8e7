"""A table between two marks of a document, written anew by the benchmark that made its figures."""

from pathlib import Path

from sam_adapters import atomic


def put_table(document: Path, begin: str, end: str, table: str) -> None:
    """Replace what stands between the marks; everything else of `document` stays.

    Raises:
        ValueError: the marks do not stand there once each, in this order.
    """
    text = document.read_text(encoding="utf-8")
    if text.count(begin) != 1 or end not in text.split(begin)[1]:
        raise ValueError(f"{document} has not the marks {begin} and {end} once each, in this order: put them where the table is to stand.")
    head, rest = text.split(begin)
    atomic.write_bytes(document, f"{head}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}".encode())
