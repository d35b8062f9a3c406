"""Small ASGI applications, and the steps that they are made of."""


async def accept(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


async def respond(send, status, body):
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse_unread(scope, receive, send):
    await respond(send, 413, b"too large")
