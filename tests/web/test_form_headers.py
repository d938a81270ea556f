import pytest

from gateway.domain.errors import MalformedForm, UnsupportedMediaType
from gateway.web.form_headers import boundary_of, parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("form-data", ("form-data", {})),
        ('Form-Data; name="a b"', ("form-data", {"name": "a b"})),
        ("form-data ; NAME = a".replace(" = ", "="), ("form-data", {"name": "a"})),
        (r'form-data; name="a"; filename="say \"hi\""', ("form-data", {"name": "a", "filename": 'say "hi"'})),
        (r'form-data; filename="C:\new\x.txt"', ("form-data", {"filename": r"C:\new\x.txt"})),
        ('form-data; filename="C:\\"; name=a', ("form-data", {"filename": "C:\\", "name": "a"})),
        ('form-data; name="a;b=c"', ("form-data", {"name": "a;b=c"})),
        ('form-data; name=""; x=', ("form-data", {"name": "", "x": ""})),
        ("form-data; name=a;", ("form-data", {"name": "a"})),
        ("multipart/form-data;boundary=x", ("multipart/form-data", {"boundary": "x"})),
    ],
)
def test_parameters_are_read_as_browsers_and_libraries_write_them(
    text: str, expected: tuple[str, dict[str, str]]
) -> None:
    assert parameters(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ";name=a", 'form-data; name="a', "form-data; name=a; name=b", "form-data junk", 'form-data; n="a"b', "a/b/c"],
)
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(MalformedForm):
        parameters(text)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=----WebKitFormBoundaryAbC123", b"----WebKitFormBoundaryAbC123"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b:c"', b"a b:c"),
        (f"multipart/form-data; boundary={'x' * 70}", b"x" * 70),
    ],
)
def test_the_boundary_is_taken_from_the_content_type(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "; boundary=",
        '; boundary=""',
        f"; boundary={'x' * 71}",
        '; boundary="ends "',
        "; boundary=a; boundary=b",
        '; boundary="a<b"',
        "; boundary=é",
        '; boundary="a\nb"',
    ],
)
def test_a_boundary_outside_the_rfc_is_malformed(rest: str) -> None:
    with pytest.raises(MalformedForm):
        boundary_of(f"multipart/form-data{rest}")


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=a"]
)
def test_another_type_is_unsupported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        boundary_of(content_type)
