"""The hash chain as a pure function: any single alteration of any chain is found."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.response.audit import (
    GENESIS,
    AuditHead,
    AuditRow,
    canonical_data,
    next_row,
    row_hash,
    verify,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
bare_rows = st.builds(
    AuditRow,
    seq=st.just(0),
    at_ms=st.integers(0, 2**50),
    actor=texts,
    kind=texts,
    incident=st.none() | st.integers(1, 9),
    command=st.none() | texts,
    data=st.dictionaries(texts, st.none() | texts | st.integers(-(2**60), 2**60), max_size=3).map(canonical_data),
    previous=st.just(""),
    hash=st.just(""),
)


def chain(bare: list[AuditRow]) -> tuple[list[AuditRow], AuditHead]:
    head, rows = AuditHead(0, GENESIS), []
    for row in bare:
        rows.append(next_row(head, row))
        head = AuditHead(rows[-1].seq, rows[-1].hash)
    return rows, head


chains = st.lists(bare_rows, min_size=1, max_size=8).map(chain)


@given(chains)
def test_a_chain_as_it_was_written_holds(written: tuple[list[AuditRow], AuditHead]) -> None:
    assert verify(*written) is None


@given(chains, st.data())
def test_a_change_of_any_field_is_found_at_its_row(
    written: tuple[list[AuditRow], AuditHead], data: st.DataObject
) -> None:
    rows, head = written
    at = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.sampled_from(["at_ms", "actor", "kind", "incident", "command", "data", "previous", "hash"]))
    old = getattr(rows[at], field)
    new = old + 1 if isinstance(old, int) else f"{old or ''}x"
    rows[at] = msgspec.structs.replace(rows[at], **{field: new})
    broken = verify(rows, head)
    assert broken is not None
    assert broken.seq == at + 1


@given(chains, st.data())
def test_a_removed_row_is_found(written: tuple[list[AuditRow], AuditHead], data: st.DataObject) -> None:
    rows, head = written
    at = data.draw(st.integers(0, len(rows) - 1))
    del rows[at]
    broken = verify(rows, head)
    assert broken is not None
    assert broken.seq == at + 1


@given(chains, st.data())
def test_an_inserted_or_repeated_row_is_found(written: tuple[list[AuditRow], AuditHead], data: st.DataObject) -> None:
    rows, head = written
    at = data.draw(st.integers(0, len(rows)))
    rows.insert(at, data.draw(st.sampled_from(rows)))
    assert verify(rows, head) is not None


@given(chains, bare_rows)
def test_a_well_made_row_after_the_head_is_found(written: tuple[list[AuditRow], AuditHead], extra: AuditRow) -> None:
    rows, head = written
    broken = verify([*rows, next_row(head, extra)], head)
    assert broken is not None
    assert broken.seq == head.seq + 1


@given(chains, st.data())
def test_two_rows_in_each_others_place_are_found(
    written: tuple[list[AuditRow], AuditHead], data: st.DataObject
) -> None:
    rows, head = written
    if len(rows) < 2:
        return
    at = data.draw(st.integers(0, len(rows) - 2))
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    broken = verify(rows, head)
    assert broken is not None
    assert broken.seq == at + 1


@given(chains, st.data())
def test_a_row_sealed_anew_is_found_at_the_latest_at_the_next(
    written: tuple[list[AuditRow], AuditHead], data: st.DataObject
) -> None:
    rows, head = written
    at = data.draw(st.integers(0, len(rows) - 1))
    changed = msgspec.structs.replace(rows[at], actor=f"{rows[at].actor}x")
    rows[at] = msgspec.structs.replace(changed, hash=row_hash(changed))
    broken = verify(rows, head)
    assert broken is not None
    assert broken.seq in (at + 1, at + 2)


def test_the_hash_is_the_documented_one() -> None:
    row = AuditRow(1, 1000, "ada", "approval.approved", 7, None, '{"a":1}', GENESIS, "")
    import hashlib

    text = '[1,1000,"ada","approval.approved",7,null,"{\\"a\\":1}","' + "0" * 64 + '"]'
    assert row_hash(row) == hashlib.sha256(text.encode()).hexdigest()
