# An MCP server with OAuth that others wrote: fastmcp with its provider in memory, which agrees to everything.
#
# usage: python fastmcp-oauth.py PORT
# Its tokens live so briefly that they are renewed before every use. GET /-/seen tells what was asked of the authorization
# server: [{path, scheme, names, client_id, status}], with the names of the form's members.
import json
import sys
from urllib.parse import parse_qs

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.auth import ClientRegistrationOptions, RevocationOptions
from fastmcp.server.auth.providers import in_memory

port = int(sys.argv[1])
in_memory.DEFAULT_ACCESS_TOKEN_EXPIRY_SECONDS = 20
provider = in_memory.InMemoryOAuthProvider(
    base_url=f"http://127.0.0.1:{port}",
    client_registration_options=ClientRegistrationOptions(enabled=True),
    revocation_options=RevocationOptions(enabled=True),
)
server = FastMCP("t", auth=provider)


@server.tool()
def echo(message: str) -> str:
    return "Echo: " + message


app = server.http_app(path="/mcp")
seen = []


async def seeing(scope, receive, send):
    if scope["type"] != "http" or scope["path"] not in ("/token", "/register", "/revoke", "/-/seen"):
        return await app(scope, receive, send)
    if scope["path"] == "/-/seen":
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    form = {} if scope["path"] == "/register" else parse_qs(body.decode())
    scheme = dict(scope["headers"]).get(b"authorization", b"").split(b" ")[0].decode()
    entry = {"path": scope["path"], "scheme": scheme, "names": sorted(form), "client_id": form.get("client_id")}
    seen.append(entry)

    async def again():
        return {"type": "http.request", "body": body, "more_body": False}

    async def sending(message):
        entry["status"] = message.get("status", entry.get("status"))
        await send(message)

    await app(scope, again, sending)


uvicorn.run(seeing, host="127.0.0.1", port=port, log_level="warning")
