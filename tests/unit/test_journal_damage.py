"""A small journal, cut and flipped at every byte: it starts, serves no bad byte, and serves everything behind."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from receiver.journal.checkpoint import NAME as CHECKPOINT
from receiver.journal.errors import JournalFull
from receiver.journal.frame import Entry, JournaledCallback, SegmentId, pack, seal
from receiver.journal.limits import JournalLimits
from receiver.journal.segment import segment_name, segment_of_name
from receiver.journal.store import Store
from tests.unit.journal_disks import FaultyDisk, ForgetfulDisk

FOLDER = Path("/journal")
LIMITS = JournalLimits(segment_bytes=4096, quota_bytes=1 << 20, disk_share=1)


class Frame(NamedTuple):
    path: Path
    start: int
    end: int
    callbacks: list[JournaledCallback]


class Sample(NamedTuple):
    """Three segments of two or three frames: the first two closed, the last one as a crash leaves it."""

    files: dict[Path, bytes]
    frames: list[Frame]

    @property
    def last_path(self) -> Path:
        return self.frames[-1].path


def sample(published: int = 0) -> Sample:
    disk, frames, now = ForgetfulDisk(Random(1)), [], 0.0
    store = Store(FOLDER, LIMITS, disk, lambda: now)
    for size in (3, 2, 2, 1, 3, 2, 1, 2):
        first = store.last + 1
        entries = [Entry(1_000 + n, b"demo", b"body %d " % n * (n % 4 + 1)) for n in range(first, first + size)]
        store.commit(entries)
        segment = store._shelf.listed()[-1]
        start = frames[-1].end if frames and frames[-1].path == segment.path else 0
        callbacks = [
            JournaledCallback(n, entry.received_ms, "demo", entry.body) for n, entry in enumerate(entries, first)
        ]
        frames.append(Frame(segment.path, start, segment.end, callbacks))
        if len(frames) in (3, 6):
            now += 301
            store.roll_aged()
            store.tidy()
    if published:
        store.mark_published(published)
    disk.crash()
    return Sample({path: content for path, content in disk.contents().items() if path.name != "lock"}, frames)


def opened(files: dict[Path, bytes]) -> Store:
    disk = ForgetfulDisk(Random(2))
    disk.load(files)
    return Store(FOLDER, LIMITS, disk)


def read_all(store: Store, after: int = 0) -> list[JournaledCallback]:
    read = []
    while callbacks := store.read(after, 4, 100):
        read += callbacks
        after = callbacks[-1].sequence
    assert not store.has_more(after)
    return read


def flips(whole: Sample) -> Iterator[tuple[Path, int, dict[Path, bytes]]]:
    for path, content in whole.files.items():
        if segment_of_name(path.name):
            written = max((frame.end for frame in whole.frames if frame.path == path), default=0)
            for at in range(min(len(content), written + 8)):
                yield (
                    path,
                    at,
                    whole.files | {path: content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]},
                )


def test_a_flipped_bit_costs_the_frame_that_holds_it_and_nothing_else() -> None:
    whole = sample()
    tried = 0
    for path, at, files in flips(whole):
        bad = [frame for frame in whole.frames if frame.path == path and frame.start <= at < frame.end]
        good = [callback for frame in whole.frames if frame not in bad for callback in frame.callbacks]
        store = opened(files)
        assert read_all(store) == good, (path.name, at)
        torn = not bad or bad[0] is whole.frames[-1]  # the last frame cannot be told from one that was being written
        assert bool(store.damages.size_bytes) is not torn or not bad, (path.name, at)
        tried += 1
    assert tried > 600


def test_a_cut_costs_what_was_cut_off_and_nothing_else() -> None:
    whole = sample()
    for path, content in whole.files.items():
        if segment_of_name(path.name) is None:
            continue
        for size in range(len(content) + 1) if path != whole.last_path else range(whole.frames[-1].end + 10):
            gone = [frame for frame in whole.frames if frame.path == path and frame.end > size]
            store = opened(whole.files | {path: content[:size]})
            assert read_all(store) == [c for frame in whole.frames if frame not in gone for c in frame.callbacks]
            if gone and path != whole.last_path and gone[0].start > 0:
                assert store.damages.missing == sum(len(frame.callbacks) for frame in gone), "the sequences tell"


def test_a_damaged_checkpoint_publishes_again_and_is_never_believed() -> None:
    whole = sample(published=9)
    path, content = FOLDER / CHECKPOINT, sample(published=9).files[FOLDER / CHECKPOINT]
    everything = [callback for frame in whole.frames for callback in frame.callbacks]
    assert opened(whole.files).published == 9
    damaged = [content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))]
    for broken in [*damaged, *(content[:size] for size in range(len(content))), content + b"x"]:
        store = opened(whole.files | {path: broken})
        assert store.published == 0
        assert read_all(store) == everything


def test_random_bytes_anywhere_never_keep_the_journal_from_starting() -> None:
    random, whole = Random(3), sample()
    everything = {callback for frame in whole.frames for callback in frame.callbacks}
    for _ in range(300):
        files = dict(whole.files)
        for _ in range(random.randint(1, 4)):
            path = random.choice(list(files))
            at, size = random.randrange(len(files[path]) + 1), random.randrange(1, 600)
            files[path] = files[path][:at] + random.randbytes(size) + files[path][at + size :]
        store = opened(files)
        assert set(read_all(store)) <= everything
        first = store.commit([Entry(1, b"demo", b"new")])
        assert read_all(store, first - 1)[-1].body == b"new"


def test_damage_is_set_aside_counted_and_reported_once() -> None:
    whole = sample()
    frame = whole.frames[1]
    content = bytearray(whole.files[frame.path])
    content[frame.start + 50] ^= 255
    files = whole.files | {frame.path: bytes(content)}
    disk = ForgetfulDisk(Random(2))
    disk.load(files)
    with capture_logs() as lines:
        store = Store(FOLDER, LIMITS, disk)
        read_all(store)
        read_all(store)
        store.close()
        again = Store(FOLDER, LIMITS, disk)
        read_all(again)
    assert [line["event"] for line in lines].count("journal_damaged") == 1
    assert (store.damages.size_bytes, store.damages.missing) == (frame.end - frame.start, len(frame.callbacks))
    kept = [(path, kept) for path, kept in disk.contents().items() if path.name.endswith(".damaged")]
    assert [kept for _, kept in kept] == [bytes(content[frame.start : frame.end])]


def test_no_room_to_set_damage_aside_does_not_stop_reading() -> None:
    whole = sample()
    frame = whole.frames[1]
    content = bytearray(whole.files[frame.path])
    content[frame.start + 50] ^= 255

    class NoRoomForIt(ForgetfulDisk):
        def pwrite(self, fd: int, content: bytes, offset: int) -> int:  # type: ignore[override]  # noqa: ARG002
            raise OSError(errno.ENOSPC, "full")

    disk = NoRoomForIt(Random(2))
    disk.load(whole.files | {frame.path: bytes(content)})
    hopeless, torn = (FOLDER / segment_name(SegmentId(number, 1)) for number in (98, 99))
    disk.load(disk.contents() | {hopeless: Random(1).randbytes(100), torn: Random(2).randbytes(100)})
    store = Store(FOLDER, LIMITS, disk)
    assert len(read_all(store)) == 16 - len(frame.callbacks)
    assert store.damages.size_bytes == frame.end - frame.start + 100
    assert hopeless in disk.contents(), "the only copy there is"
    assert torn not in disk.contents()


HEADER, PAYLOAD = 10, 50


@pytest.mark.parametrize("places", [(PAYLOAD, PAYLOAD), (HEADER, PAYLOAD), (PAYLOAD, HEADER)])
def test_two_bad_frames_at_the_end_are_damage_because_only_one_can_be_torn(places: tuple[int, int]) -> None:
    whole = sample()
    content = bytearray(whole.files[whole.last_path])
    for frame, place in zip(whole.frames[-2:], places, strict=True):
        content[frame.start + place] ^= 255
    store = opened(whole.files | {whole.last_path: bytes(content)})
    assert store.damages.size_bytes == whole.frames[-1].end - whole.frames[-2].start


def test_a_bad_frame_before_a_torn_segment_is_damage_because_only_one_can_be_torn() -> None:
    whole = sample()
    torn = FOLDER / segment_name(SegmentId(99, 1))
    content = bytearray(whole.files[whole.last_path])
    content[whole.frames[-1].start + PAYLOAD] ^= 255
    store = opened(whole.files | {whole.last_path: bytes(content), torn: b"torn" + bytes(500)})
    assert store.damages.size_bytes == whole.frames[-1].end - whole.frames[-1].start


@pytest.mark.parametrize("seed", range(8))
def test_a_torn_tail_is_cut_durably(seed: int) -> None:
    whole = sample()
    frame = whole.frames[-1]
    disk = ForgetfulDisk(Random(seed))
    disk.load(whole.files | {frame.path: whole.files[frame.path][: frame.end - 9]})
    Store(FOLDER, LIMITS, disk)
    disk.crash()
    assert len(disk.contents()[frame.path]) == frame.start


@pytest.mark.parametrize("seed", range(8))
def test_a_removed_segment_does_not_come_back(seed: int) -> None:
    whole = sample(published=16)
    disk = ForgetfulDisk(Random(seed))
    disk.load(whole.files)
    now = 0.0
    store = Store(FOLDER, LIMITS, disk, lambda: now)
    now = 901
    store.tidy()
    disk.crash()
    assert not {frame.path for frame in whole.frames} & set(disk.contents())


def test_a_lost_checkpoint_leaves_what_is_gone_published() -> None:
    whole = sample()
    gone = whole.frames[0].path
    store = opened({path: content for path, content in whole.files.items() if path != gone})
    assert store.published == 7, "the first segment held seven"


def test_reading_does_not_hang_at_damage_with_nothing_behind_it() -> None:
    disk = ForgetfulDisk(Random(6))
    store = Store(FOLDER, LIMITS, disk)
    for n in range(3):
        store.commit([Entry(1, b"demo", bytes([n]) * 100)])
    path = store._shelf.listed()[0].path
    disk._names[path].now[-LIMITS.segment_bytes + 2 * 152 + 60] ^= 255  # the last frame rots on the disk
    assert [callback.sequence for callback in store.read(0, 10, 10_000)] == [1, 2]
    assert store.has_more(2)
    assert store.read(2, 10, 10_000) == []
    assert not store.has_more(2)
    store.commit([Entry(1, b"demo", b"behind")])
    assert store.has_more(2)
    assert store.read(2, 10, 10_000)[0].body == b"behind"


def test_a_frame_inside_a_body_is_never_served() -> None:
    """Even where the sender knows the segment's number and the sequence, and the frame around it is damaged."""
    disk = ForgetfulDisk(Random(5))
    store = Store(FOLDER, LIMITS, disk)
    forged = pack([Entry(1, b"other", b"forged")])
    seal(forged, SegmentId(1, 0), 2, 1)
    store.commit([Entry(1, b"demo", bytes(padding) + forged) for padding in range(8)])
    store.commit([Entry(1, b"demo", b"behind")])
    path = store._shelf.listed()[0].path
    content = bytearray(disk.contents()[path])
    content[40] ^= 255
    again = opened({path: bytes(content)})
    assert [callback.body for callback in read_all(again)] == [b"behind"]


def test_an_unreadable_block_costs_its_frames_alone(tmp_path: Path) -> None:
    disk = FaultyDisk()
    limits = JournalLimits(segment_bytes=65536, quota_bytes=1 << 24, disk_share=1)
    store = Store(tmp_path, limits, disk)
    for n in range(40):
        store.commit([Entry(n, b"demo", bytes([n]) * 1000)])
    disk.unreadable = {3}
    bodies = [callback.body[0] for callback in read_all(store)]
    lost = sorted(set(range(40)) - set(bodies))
    assert bodies == sorted(bodies)
    assert lost == list(range(lost[0], lost[0] + 5))
    assert store.damages.missing == 5


def test_an_unreadable_block_is_never_cut_off_as_if_it_were_torn(tmp_path: Path) -> None:
    """It may be readable again at the next start, and what is on it was acknowledged."""
    limits = JournalLimits(segment_bytes=65536, quota_bytes=1 << 24, disk_share=1)
    store = Store(tmp_path, limits, FaultyDisk())
    for n in range(10):
        store.commit([Entry(n, b"demo", bytes(1000))])
    store._folder.unlock()
    disk = FaultyDisk()
    disk.unreadable = {2}
    with pytest.raises(OSError, match="unreadable"):
        Store(tmp_path, limits, disk)
    disk.unreadable = set()
    assert len(read_all(Store(tmp_path, limits, disk))) == 10


def test_a_journal_full_of_damage_is_left_behind() -> None:
    path = FOLDER / segment_name(SegmentId(7, 1))
    store = opened({path: Random(1).randbytes(3000), FOLDER / "checkpoint": b"?"})
    assert read_all(store) == []
    assert store.commit([Entry(1, b"demo", b"new")]) == 1
    assert store._shelf.listed()[0].identity.number > 7


def test_a_recovered_journal_keeps_to_its_quota() -> None:
    whole = sample()
    store = opened(whole.files)
    entry = Entry(1, b"demo", bytes(2000))
    with pytest.raises(JournalFull):
        deque(store.commit([entry]) for _ in range(10_000))
    assert store.bytes_used <= LIMITS.quota_bytes * LIMITS.quota_share
