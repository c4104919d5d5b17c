"""Runs a workflow with the public client's helper, and prints two lines of JSON: what somebody has to authorise, and the
response.

usage: connector_auth.py DAEMON_URL API_KEY WORKFLOW INPUT
"""

import asyncio
import json
import sys

from mistralai.client import Mistral
from mistralai.extra.workflows.connector_auth import execute_with_connector_auth_async

daemon, key, workflow, text = sys.argv[1:]


async def tell(state):
    print(json.dumps(state.model_dump(mode="json")), flush=True)


async def main():
    client = Mistral(api_key=key, server_url=daemon)
    response = await execute_with_connector_auth_async(
        client, workflow, json.loads(text), on_auth_required=tell, polling_interval=1
    )
    print(response.model_dump_json(), flush=True)


asyncio.run(main())
