import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_adapters import file_lock
from sam_adapters.errors import LabelError, RegistryError
from sam_adapters.label_log import LabelEntry, LabelLog, label_file_sha256

SHA = "0" * 64
names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
entries = st.builds(
    LabelEntry,
    case=names,
    tag=names,
    label_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    who=st.one_of(st.just(""), names),
    proposed_by=st.one_of(st.none(), st.just("base"), st.text("0123456789abcdef", min_size=16, max_size=16)),
    base=st.one_of(st.none(), st.just("ab" * 32)),
    saved_at=st.datetimes(timezones=st.just(UTC)),
)


@pytest.fixture
def log(tmp_path: Path) -> LabelLog:
    return LabelLog(tmp_path / "labels.jsonl")


def entry(case: str = "case", **changes: object) -> LabelEntry:
    return LabelEntry(**{"case": case, "tag": "final", "label_sha256": SHA, **changes})  # type: ignore[arg-type]


class TestEntry:
    @given(entries)
    def test_a_line_reads_back_as_what_was_written(self, saved: LabelEntry) -> None:
        line = saved.to_line()
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert LabelEntry.from_line(line) == saved

    def test_times_are_kept_in_utc(self) -> None:
        noon_in_delhi = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        read = LabelEntry.from_line(entry(saved_at=noon_in_delhi).to_line())
        assert read.saved_at == noon_in_delhi
        assert (read.saved_at.hour, read.saved_at.minute, read.saved_at.tzinfo) == (6, 30, UTC)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"case": ""}, "case is ''"),
            ({"case": "two\nlines"}, "case is"),
            ({"case": "x" * 513}, "case is"),
            ({"case": 5}, "case is 5"),
            ({"tag": ""}, "tag is ''"),
            ({"who": "tab\t"}, "who is"),
            ({"label_sha256": "0" * 63}, "label_sha256 is"),
            ({"label_sha256": "G" * 64}, "label_sha256 is"),
            ({"proposed_by": "../base"}, "proposed_by is"),
            ({"proposed_by": 7}, "proposed_by is 7"),
            ({"base": "litemedsam"}, "base is 'litemedsam'"),
            ({"saved_at": datetime(2026, 5, 1)}, "saved_at is"),
        ],
    )
    def test_what_is_no_entry_is_refused_by_name(self, changes: dict[str, object], sentence: str) -> None:
        with pytest.raises(LabelError, match=sentence):
            entry(**changes)


class TestLog:
    def test_no_file_means_no_entries(self, log: LabelLog) -> None:
        assert log.entries() == []
        assert log.latest() == {}

    def test_entries_come_back_in_order_and_the_newest_of_a_case_counts(self, log: LabelLog) -> None:
        saved = [entry("a"), entry("b"), entry("a", label_sha256="1" * 64), entry("a", tag="draft", label_sha256="2" * 64)]
        for one in saved:
            log.append(one)
        assert log.entries() == saved
        assert log.latest() == {"a": saved[3], "b": saved[1]}
        assert list(log.latest()) == ["a", "b"]
        assert log.latest("final") == {"a": saved[2], "b": saved[1]}

    def test_cut_off_at_any_byte_only_the_torn_line_is_lost(self, log: LabelLog) -> None:
        saved = [entry("a", who="dr ä"), entry("b", proposed_by="base", base="ab" * 32)]
        data = b"".join(one.to_line() for one in saved)
        for length in range(len(data) + 1):
            check_cut_off_at(log, saved, length, new=entry("c"))

    @settings(deadline=None)
    @given(saved=st.lists(entries, min_size=1, max_size=4), new=entries, data=st.data())
    def test_cut_off_anywhere_whatever_is_in_it(
        self, tmp_path_factory: pytest.TempPathFactory, saved: list[LabelEntry], new: LabelEntry, data: st.DataObject
    ) -> None:
        length = data.draw(st.integers(0, sum(len(one.to_line()) for one in saved)))
        check_cut_off_at(LabelLog(tmp_path_factory.mktemp("log") / "labels.jsonl"), saved, length, new)

    def test_a_torn_line_longer_than_a_block_is_cut_off(self, log: LabelLog) -> None:
        log.append(entry("a"))
        with log.path.open("ab") as stream:
            stream.write(b"{" + b"x" * 200_000)
        log.append(entry("b"))
        assert [one.case for one in log.entries()] == ["a", "b"]

    @pytest.mark.parametrize("damage", [b"{}\n", b"[]\n", b"\xff\xfe\n", b"\n", b'{"case": "a"}\n'])
    def test_damage_before_the_last_line_is_reported_with_its_number(self, log: LabelLog, damage: bytes) -> None:
        log.append(entry("a"))
        with log.path.open("ab") as stream:
            stream.write(damage)
        log.append(entry("b"))
        with pytest.raises(RegistryError, match="line 2 is damaged"):
            log.entries()

    def test_another_process_that_keeps_the_log_locked_is_waited_for_and_then_reported(self, log: LabelLog) -> None:
        log.append(entry("a"))
        impatient = LabelLog(log.path, timeout=0.05)
        with file_lock.locked(log.path), pytest.raises(RegistryError, match=r"locked for 0\.05 s"):
            impatient.append(entry("b"))
        impatient.append(entry("c"))
        assert [one.case for one in log.entries()] == ["a", "c"]

    def test_a_full_disk_adds_nothing_and_says_so(self, log: LabelLog, monkeypatch: pytest.MonkeyPatch) -> None:
        log.append(entry("a"))
        before = log.path.read_bytes()
        real = os.write

        def write_a_little_then_fail(descriptor: int, data: bytes) -> int:
            if len(data) <= 10:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[:-10])

        monkeypatch.setattr(os, "write", write_a_little_then_fail)
        with pytest.raises(RegistryError, match=r"No space left on device.*Free disk space"):
            log.append(entry("b"))
        assert log.path.read_bytes() == before

    def test_threads_may_share_a_log(self, log: LabelLog) -> None:
        threads = [threading.Thread(target=lambda n=n: [log.append(entry(f"{n}-{i}")) for i in range(10)]) for n in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(one.case for one in log.entries()) == sorted(f"{n}-{i}" for n in range(4) for i in range(10))

    def test_an_entry_is_only_for_its_owners_eyes(self, log: LabelLog) -> None:
        log.append(entry())
        assert log.path.stat().st_mode & 0o077 == 0


def test_the_hash_of_a_label_file(tmp_path: Path) -> None:
    (tmp_path / "label").write_bytes(b"abc")
    assert label_file_sha256(tmp_path / "label") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def check_cut_off_at(log: LabelLog, saved: list[LabelEntry], length: int, new: LabelEntry) -> None:
    """Cut a log after `length` bytes: what was whole is read, and after the next append the file is a whole log again."""
    log.path.write_bytes(b"".join(one.to_line() for one in saved)[:length])
    whole: list[LabelEntry] = []
    end = 0
    for one in saved:
        end += len(one.to_line())
        if length >= end - 1:  # all of a line but its line break is the whole entry
            whole.append(one)
    assert log.entries() == whole
    log.append(new)
    assert log.entries() == [*whole, new]
    assert log.path.read_bytes() == b"".join(one.to_line() for one in [*whole, new])
