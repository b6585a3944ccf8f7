"""Pictures given through Codegen's API: what reaches the model, and what is refused before anything is stored."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.support.caller import CODEGEN
from tests.support.server import Server, served
from tests.support.toolbox import plan

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + b"j" * 20
GIF = b"GIF89a" + b"g" * 20
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + b"w" * 20


def uri(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


async def test_a_picture_reaches_the_model_with_the_prompt(server: Server) -> None:
    paused = await server.create_by_codegen(plan([("delete_file", {"path": "/a"})]))
    response = await server.resume(paused["id"], "look", images=[uri(PNG), uri(JPEG, "image/jpeg")])
    assert response.status_code == 200
    done = await server.read_by_codegen(paused["id"])
    assert f"['look', 'image/png of {len(PNG)} bytes', 'image/jpeg of {len(JPEG)} bytes']" in done["result"]


async def test_every_accepted_type_may_come_with_a_new_run(server: Server) -> None:
    for content, media_type in ((PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")):
        made = await server.create_by_codegen(plan([("note", {"text": "x"})]), images=[uri(content, media_type)])
        assert made["status"] == "COMPLETE"


WRONG = {
    "a type that is not taken": uri(PNG, "image/svg+xml"),
    "no picture at all": uri(b"hello", "text/plain"),
    "broken base64": "data:image/png;base64,iVBOR",
    "letters that are no base64": "data:image/png;base64,????",
    "another picture than it says": uri(JPEG, "image/png"),
    "bytes that are no picture": uri(b"hello", "image/png"),
    "a RIFF file that is no WebP": uri(b"RIFF\x10\x00\x00\x00WAVEfmt " + b"w" * 20, "image/webp"),
    "an empty picture": "data:image/png;base64,",
    "no base64 mark": "data:image/png,abc",
    "an address": "https://example.org/a.png",
    "an empty text": "",
    "too large": uri(PNG + b"x" * 2000),
}


async def test_a_picture_that_is_not_acceptable_changes_nothing(tmp_path: Path) -> None:
    for image in WRONG.values():
        async with served(tmp_path, max_image_bytes=1000) as server:
            paused = await server.create_by_codegen(plan([("delete_file", {"path": "/a"})]))
            async with server.nothing_changes():
                for path, keys in (("", {}), ("/resume", {"agent_run_id": paused["id"]})):
                    body = {"prompt": "x", "images": [uri(PNG), image], **keys}
                    response = await server.post(f"{CODEGEN}{path}", body)
                    assert response.status_code == 400, response.text
                    assert response.json().keys() == {"message", "status_code"}
                    assert response.json()["status_code"] == 400
                    assert response.json()["message"].startswith("images[1]: ")


async def test_too_many_pictures_change_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, max_images=2) as server:
        response = await server.post(CODEGEN, {"prompt": "x", "images": [uri(PNG)] * 3})
        assert response.status_code == 400
        assert response.json() == {"message": "images: 3 sent, at most 2 are accepted", "status_code": 400}
        assert (await server.dump())["runs"] == []
        assert (await server.create_by_codegen("x", images=[uri(PNG)] * 2))["status"] == "COMPLETE"
