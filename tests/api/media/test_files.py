"""Media on a create, as Agno's client of 3.1.10 sends them: what reaches the model, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caller import RUNS
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + b"j" * 20
GIF = b"GIF89a" + b"g" * 30
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + b"w" * 40
PDF = b"%PDF-1.4\n" + bytes(range(50))
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sent(content: bytes | str, **keys: str) -> JsonObject:
    """Return a picture or file as the client writes it; a text stands as it is, bytes in base64."""
    return {"id": "m1", "content": content if isinstance(content, str) else encoded(content), **keys}


def shown(media_type: str, content: bytes) -> str:
    """Return how the desk's model names what it was given."""
    return f"{media_type} of {len(content)} bytes"


async def post(server: Server, fields: JsonObject, *, multipart: bool = False) -> httpx.Response:
    """Send a create; fields that are no text are sent as JSON."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    form = {"message": "look", "stream": "false", **texts}
    if multipart:
        return await server.client.post(RUNS, files={name: (None, value) for name, value in form.items()})
    return await server.client.post(RUNS, data=form)


async def reported(server: Server, *, multipart: bool = False, **fields: object) -> list[Any]:
    """Send a create that must work; return what the model was given with the message."""
    response = await post(server, fields, multipart=multipart)
    assert response.status_code == 200, response.text
    content = response.json()["content"]
    words: list[Any] = json.loads(content.removeprefix("Done. The user said ").removesuffix(".").replace("'", '"'))
    assert words[0] == "look"
    return words[1:]


@pytest.mark.parametrize("multipart", [True, False])
async def test_pictures_and_files_reach_the_model_behind_the_message(server: Server, *, multipart: bool) -> None:
    images = [sent(PNG), sent(JPEG, mime_type="image/jpeg", format="jpg")]
    files = [sent(PDF, mime_type="application/pdf", filename="a.pdf")]
    assert await reported(server, multipart=multipart, images=images, input_files=files) == [
        shown("image/png", PNG),
        shown("image/jpeg", JPEG),
        shown("application/pdf", PDF),
    ]


async def test_uploads_come_along_with_them(server: Server) -> None:
    form = {"message": "look", "stream": "false", "images": json.dumps([sent(PNG)])}
    response = await server.client.post(RUNS, data=form, files={"files": ("a.txt", b"abc", "text/plain")})
    assert (
        response.json()["content"]
        == f"Done. The user said ['look', 'text/plain of 3 bytes', '{shown('image/png', PNG)}']."
    )


async def test_the_type_of_a_picture_is_said_or_seen(server: Server) -> None:
    cases: list[tuple[JsonObject, str]] = [
        (sent(PNG), shown("image/png", PNG)),
        (sent(JPEG), shown("image/jpeg", JPEG)),
        (sent(GIF), shown("image/gif", GIF)),
        (sent(WEBP), shown("image/webp", WEBP)),
        (sent(JPEG, format="JPG"), shown("image/jpeg", JPEG)),
        (sent(JPEG, mime_type="image/jpg"), shown("image/jpeg", JPEG)),
        (sent(PNG, mime_type="IMAGE/PNG; q=1"), shown("image/png", PNG)),
        ({"id": "m1", "url": f"data:image/png;base64,{encoded(PNG)}"}, shown("image/png", PNG)),
        ({"content": encoded(PNG), "url": None, "filepath": None, "detail": "low"}, shown("image/png", PNG)),
    ]
    for item, expected in cases:
        assert await reported(server, images=[item]) == [expected]


async def test_the_type_of_a_file_is_said_or_seen(server: Server) -> None:
    cases: list[tuple[JsonObject, str]] = [
        (sent(PDF), shown("application/pdf", PDF)),
        (sent(PDF, format="pdf"), shown("application/pdf", PDF)),
        (sent(b"PK12345", filename="letter.DOCX"), shown(DOCX, b"PK12345")),
        (sent(b'{"a": 1}', mime_type="application/json"), shown("application/json", b'{"a": 1}')),
        (sent('{"a": 1}', mime_type="application/json"), shown("application/json", b'{"a": 1}')),
        # The client does not encode a text; what looks like base64 is one all the same.
        (sent("TestData", mime_type="text/plain"), shown("text/plain", b"TestData")),
        (sent("a,b\n☃", mime_type="text/csv"), shown("text/csv", "a,b\n☃".encode())),
        (sent("hi there", format="txt"), shown("text/plain", b"hi there")),
        (sent(b"# hello", filename="notes.md"), shown("text/markdown", b"# hello")),
        (sent(PNG), shown("image/png", PNG)),
        ({"url": f"data:application/pdf;base64,{encoded(PDF)}"}, shown("application/pdf", PDF)),
    ]
    for item, expected in cases:
        assert await reported(server, input_files=[item]) == [expected]


async def test_an_empty_field_brings_nothing(server: Server) -> None:
    for field in ("images", "audio", "videos", "input_files"):
        for text in ("", " ", "[]", "null"):
            response = await post(server, {field: text})
            assert response.json()["content"] == "Done. The user said ['look']."


_ELSEWHERE = "send the content itself, as base64 in `content`"
_PICTURES = "image/png, image/jpeg, image/gif, image/webp"


async def test_what_the_model_cannot_be_given_is_refused_by_name(tmp_path: Path) -> None:
    cases: list[tuple[str, object, str]] = [
        ("audio", [sent(b"x", format="wav")], "audio: not accepted; send images and files only"),
        ("videos", [sent(b"x", format="mp4")], "videos: not accepted; send images and files only"),
        *((field, "[{", f"Invalid JSON in {field} field") for field in ("images", "audio", "videos", "input_files")),
        *((field, {"a": 1}, f"{field} must be a JSON array of objects") for field in ("images", "input_files")),
        ("images", ["x"], "images must be a JSON array of objects"),
        ("images", [sent(PNG), {"content": 5}], "images[1].content: Input should be a valid string"),
        ("images", [{"url": "https://example.org/a.png"}], f"images[0].url: not fetched; {_ELSEWHERE}"),
        ("images", [{"url": "data:image/png,abc"}], f"images[0].url: not fetched; {_ELSEWHERE}"),
        ("images", [{"filepath": "/etc/passwd"}], f"images[0].filepath: not read; {_ELSEWHERE}"),
        ("images", [{"media_reference": {"key": "k"}}], f"images[0].media_reference: not read; {_ELSEWHERE}"),
        ("images", [{"id": "m1"}], "images[0]: has no content"),
        ("images", [sent("")], "images[0]: has no content"),
        ("images", [sent("????")], "images[0].content: the base64 text is invalid"),
        ("images", [sent("aGVsbG8")], "images[0].content: the base64 text is invalid"),
        ("images", [sent("ä")], "images[0].content: the base64 text is invalid"),
        ("images", [sent(b"hello")], f"images[0]: the content is none of {_PICTURES}"),
        ("images", [sent(b"hello", mime_type="image/png")], "images[0]: the content is not image/png"),
        ("images", [sent(JPEG, format="png")], "images[0]: the content is not image/png"),
        ("images", [sent(b"BM", format="bmp")], f"images[0]: image/bmp is not accepted; use {_PICTURES}"),
        (
            "images",
            [sent(PDF, mime_type="application/pdf")],
            f"images[0]: application/pdf is not accepted; use {_PICTURES}",
        ),
        ("images", [sent(PNG + b"x" * 1000)], f"images[0]: {len(PNG) + 1000} bytes, at most 1000 are accepted"),
        ("input_files", [{"url": "https://example.org/a.pdf"}], f"input_files[0].url: not fetched; {_ELSEWHERE}"),
        ("input_files", [{"external": {"name": "f"}}], f"input_files[0].external: not read; {_ELSEWHERE}"),
        ("input_files", [{"id": "file-1"}], "input_files[0]: has no content"),
        (
            "input_files",
            [sent(b"\x00\x01")],
            "input_files[0]: its type is missing (mime_type) and not detected from the content",
        ),
        ("input_files", [sent("?", mime_type="application/pdf")], "input_files[0].content: the base64 text is invalid"),
        ("input_files", [sent(JPEG, mime_type="image/png")], "input_files[0]: the content is not image/png"),
        (
            "input_files",
            [sent("x" * 1001, format="txt", mime_type="text/plain")],
            "input_files[0]: 1001 bytes, at most 1000 are accepted",
        ),
    ]
    async with served(tmp_path, max_image_bytes=1000) as server:
        for field, value, detail in cases:
            response = await post(server, {field: value})
            assert (response.status_code, response.json()) == (400, {"detail": detail})
            dump = await server.dump()
            assert (dump["runs"], dump["sessions"], dump["inputs"]) == ([], [], [])


async def test_a_type_of_file_that_is_not_taken_is_named_with_those_that_are(server: Server) -> None:
    response = await post(server, {"input_files": [sent(b"PK", mime_type="application/zip")]})
    assert response.status_code == 400
    assert response.json()["detail"].startswith(
        "input_files[0]: application/zip is not accepted; use application/json, "
    )
    assert (await server.dump())["runs"] == []


async def test_there_is_one_limit_to_the_number_of_all_of_them(tmp_path: Path) -> None:
    async with served(tmp_path, max_images=3) as server:
        form = {"message": "look", "stream": "false", "images": json.dumps([sent(PNG)])}
        uploads = {"files": ("a.txt", b"abc", "text/plain")}
        files = [sent("x", mime_type="text/plain")]
        fitting = await server.client.post(RUNS, data={**form, "input_files": json.dumps(files)}, files=uploads)
        assert fitting.status_code == 200
        async with server.nothing_changes():
            response = await server.client.post(
                RUNS, data={**form, "input_files": json.dumps(files * 2)}, files=uploads
            )
            assert response.status_code == 400
            assert response.json() == {"detail": "files, images and input_files: 4 sent, at most 3 are accepted"}


@pytest.mark.parametrize("multipart", [True, False])
async def test_a_picture_in_a_field_may_be_as_large_as_an_upload(server: Server, *, multipart: bool) -> None:
    large = PNG + bytes(2_000_000)
    assert await reported(server, multipart=multipart, images=[sent(large)]) == [shown("image/png", large)]


async def test_a_form_without_a_message_is_told_before_its_media(server: Server) -> None:
    response = await server.client.post(RUNS, data={"stream": "false", "images": "[{"})
    assert response.status_code == 422


async def test_other_pictures_under_the_same_key_are_another_request(server: Server) -> None:
    headers = {"Idempotency-Key": "k"}
    for picture, status in ((PNG, 200), (PNG, 200), (JPEG, 422)):
        form = {"message": "look", "stream": "false", "images": json.dumps([sent(picture)])}
        assert (await server.client.post(RUNS, data=form, headers=headers)).status_code == status
    assert len((await server.dump())["runs"]) == 1


async def test_an_upload_of_no_known_type_goes_by_its_name(server: Server) -> None:
    for name, status in (("a.csv", 200), ("a.md", 200), ("a.exe", 400), ("a", 400)):
        files = {"files": (name, b"abc", "application/octet-stream")}
        response = await server.client.post(RUNS, data={"message": "x", "stream": "false"}, files=files)
        assert response.status_code == status, response.text


async def test_an_upload_is_what_it_is_said_to_be(server: Server) -> None:
    cases: list[tuple[str, bytes, str, bool]] = [
        ("a.png", PNG, "image/png", True),
        ("a.png", JPEG, "image/png", False),
        ("a.png", b"#!/bin/sh", "image/png", False),
        ("a.gif", b"", "image/gif", False),
        ("a.png", b"<svg/>", "application/octet-stream", False),
        ("a.pdf", PDF, "application/pdf", True),
        ("a.pdf", b"\n" * 100 + PDF, "application/pdf", True),
        ("a.pdf", b"MZ\x90\0", "application/pdf", False),
        ("a.docx", b"PK\x03\x04...", DOCX, True),
        ("a.docx", PDF, DOCX, False),
        ("a.txt", "ä".encode("utf-16"), "text/plain", True),
        ("a.txt", PNG + b"\0", "text/plain", False),
        ("a.json", b"\0\0", "application/json", False),
    ]
    for name, content, media_type, taken in cases:
        form = {"message": "x", "stream": "false"}
        before = (await server.lasting())["runs"]
        response = await server.client.post(RUNS, data=form, files={"files": (name, content, media_type)})
        assert response.status_code == (200 if taken else 400), response.text
        if not taken:
            assert response.json()["detail"].startswith(f"files: {name}: the content is not ")
            assert (await server.lasting())["runs"] == before
