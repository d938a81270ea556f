"""Pages of a listing, however small, come to the whole listing, each row once."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.dev.cos_pages import Entry, take_page

KEYS = st.text(alphabet="ab/", max_size=5)


@given(
    rows=st.lists(st.tuples(KEYS.filter(bool), st.sampled_from("123")), max_size=25, unique=True),
    prefix=st.text(alphabet="ab/", max_size=2),
    delimiter=st.sampled_from(["", "/", "b"]),
    limit=st.integers(1, 4),
)
def test_pages_come_to_the_whole(rows: list[tuple[str, str]], prefix: str, delimiter: str, limit: int) -> None:
    entries = [Entry(key, upload_id, (key, upload_id)) for key, upload_id in sorted(rows)]
    inside = [row for row in sorted(rows) if row[0].startswith(prefix)]
    rests = {row: row[0][len(prefix) :] for row in inside}
    plain = [row for row in inside if not delimiter or delimiter not in rests[row]]
    folders = {prefix + rests[row].split(delimiter)[0] + delimiter for row in inside if row not in plain}

    items: list[tuple[str, str]] = []
    common: list[str] = []
    after: tuple[str, str | None] = ("", None)
    while True:
        page = take_page(entries, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        assert len(page.items) + len(page.common_prefixes) <= limit
        items += page.items
        common += page.common_prefixes
        if not page.truncated:
            break
        after = (page.last_key, page.last_id or None)

    assert items == plain
    assert common == sorted(folders)
