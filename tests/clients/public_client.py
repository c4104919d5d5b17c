"""Drives a daemon with the public Python client, unchanged. Ends with status 0 and a count when every check holds.

usage: public_client.py DAEMON_URL API_KEY MCP_URL TOKEN
The daemon serves the plugins hello, github-issues and durable; MCP_URL is a server that wants TOKEN and has the tool issue_write.
"""

import asyncio
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version

from mistralai.client import Mistral
from mistralai.extra.workflows.connector_auth import execute_with_connector_auth_async
from mistralai.extra.workflows.connector_slot import ConnectorSlot

daemon, key, mcp, token = sys.argv[1:]
generation = int(version("mistralai").split(".")[0])
checks = 0


def check(condition, what):
    global checks
    if not condition:
        sys.exit(f"FAILED: {what}")
    checks += 1


def until(ask, what):
    """Asks until the answer is yes. The limit is for hangs, not for slow machines."""
    limit = time.monotonic() + 300
    while not (found := ask()):
        if time.monotonic() > limit:
            break
        time.sleep(0.02)
    check(found, what)


def refused(call, status, what):
    try:
        call()
    except Exception as error:  # the classes differ between generations; the status is what counts
        check(getattr(error, "status_code", None) == status, f"{what}: {error!r}")
        return str(error)
    sys.exit(f"FAILED: {what}: nothing was raised")


def create_connector(client, name):
    fields = dict(name=name, description="issues for tests", server=mcp, visibility="shared_workspace")
    if generation >= 3:
        request = dict(fields, protocol="mcp", auth_methods=[{"method_type": "bearer"}])
        return client.beta.connectors.create(request=request)
    return client.beta.connectors.create(**fields)


def set_credential(client, connector, name, value, **more):
    credentials = {"bearer_token": value}
    api = client.beta.connectors
    if generation >= 3:
        return api.create_credentials(
            connector_id_or_name=connector, consumer_scope="user", name=name, credentials=credentials, **more
        )
    return api.create_or_update_user_credentials(
        connector_id_or_name=connector, name=name, credentials=credentials, **more
    )


def delete_credential(client, connector, name):
    api = client.beta.connectors
    if generation >= 3:
        return api.delete_credentials(connector_id_or_name=connector, consumer_scope="user", credentials_name=name)
    return api.delete_user_credentials(connector_id_or_name=connector, credentials_name=name)


def workflows(client):
    found, page = [], client.workflows.get_workflows(limit=1)
    while page is not None:
        found += page.result.workflows
        page = page.next()
    names = {workflow.name for workflow in found}
    check({"hello", "github-issue-creator"} <= names, f"both workflows are listed over several pages: {names}")

    answer = client.workflows.execute_workflow(
        workflow_identifier="hello", input={"name": "Ada"}, wait_for_result=True
    )
    check("Ada" in str(answer.result), f"the result comes at once: {answer!r}")

    started = client.workflows.execute_workflow(workflow_identifier="hello", input={"name": "Grace"})
    check(started.status in ("RUNNING", "COMPLETED"), f"a start answers with the execution: {started!r}")
    types, last = [], -1
    with client.workflows.events.get_stream_events(root_workflow_exec_id=started.execution_id) as stream:
        for frame in stream:
            if frame.data is None:
                continue
            check(frame.data.broker_sequence > last, "the numbers of events grow")
            last = frame.data.broker_sequence
            types.append(frame.data.data.event_type)
    expected = [
        "WORKFLOW_EXECUTION_STARTED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    check(types == expected, f"the event stream tells the whole story and ends: {types}")
    again = client.workflows.events.get_stream_events(root_workflow_exec_id=started.execution_id, start_seq=last)
    check([frame.data.broker_sequence for frame in again if frame.data] == [last], "a stream goes on from start_seq")
    execution = client.workflows.executions.get_workflow_execution(execution_id=started.execution_id)
    check(execution.status == "COMPLETED" and "Grace" in str(execution.result), f"{execution!r}")
    check(execution.end_time >= execution.start_time, "an ended execution has both times")

    refused(lambda: client.workflows.execute_workflow(workflow_identifier="nobody", input={}), 404, "unknown workflow")
    text = refused(
        lambda: client.workflows.execute_workflow(workflow_identifier="hello", input={"name": 7}), 422, "wrong input"
    )
    check("name" in text, f"the message names the field: {text}")
    refused(
        lambda: client.workflows.executions.get_workflow_execution(execution_id="nobody"), 404, "unknown execution"
    )


def connectors(client):
    api = client.beta.connectors
    made = create_connector(client, "scratch")
    check(made.name == "scratch" and made.id, f"{made!r}")
    refused(lambda: create_connector(client, "scratch"), 409, "a name is given once")
    listed = api.list(page_size=1)
    names = [item.name for item in listed.items]
    while listed.pagination.next_cursor:
        listed = api.list(page_size=1, cursor=listed.pagination.next_cursor)
        names += [item.name for item in listed.items]
    check(sorted(names) == ["github_app", "scratch"], f"connectors are listed over several pages: {names}")
    check(api.get(connector_id_or_name=made.id).name == "scratch", "get takes an id")
    check(api.get(connector_id_or_name="scratch").id == made.id, "get takes a name")

    refused(lambda: api.list_tools(connector_id_or_name="scratch"), 403, "tools need a credential")
    set_credential(client, "scratch", "first", token)
    set_credential(client, "scratch", "second", "another-token-that-nobody-knows")
    found = api.list_user_credentials(connector_id_or_name="scratch").credentials
    state = sorted((item.name, item.is_default) for item in found)
    check(state == [("first", True), ("second", False)], f"the first credential is the default one: {state}")
    check(token not in repr(found), "a stored credential does not come back")
    tools = api.list_tools(connector_id_or_name="scratch")
    check("issue_write" in [tool.name if hasattr(tool, "name") else tool["name"] for tool in tools], f"{tools!r}")
    answer = api.call_tool(
        connector_id_or_name="scratch",
        tool_name="issue_write",
        arguments={"method": "create", "owner": "o", "repo": "r", "title": "t", "body": "b"},
    )
    check(not answer.metadata.mcp_meta.is_error, f"{answer!r}")
    echo = api.call_tool(connector_id_or_name="scratch", tool_name="headers_echo", arguments={})
    check(token not in repr(echo), "a tool that echoes its request's headers does not give the token away")
    refused(
        lambda: api.call_tool(
            connector_id_or_name="scratch", tool_name="issue_list", arguments={}, credentials_name="nobody"
        ),
        404,
        "unknown credential",
    )
    delete_credential(client, "scratch", "second")
    left = [item.name for item in api.list_user_credentials(connector_id_or_name="scratch").credentials]
    check(left == ["first"], f"{left}")
    api.delete(connector_id=made.id)
    refused(lambda: api.get(connector_id_or_name="scratch"), 404, "a deleted connector is gone")


async def on_behalf(client):
    asked = []

    async def on_auth_required(state):
        asked.append(state)

    issue = {"owner": "my-org", "repo": "my-repo", "title": "Bug", "body": "Steps"}
    helper = dict(
        client=client, workflow_identifier="github-issue-creator", input_data=issue, on_auth_required=on_auth_required
    )
    response = await execute_with_connector_auth_async(polling_interval=1, **helper)
    check(response.status == "COMPLETED" and not asked, f"a stored credential needs nobody: {response!r}")

    bound = [ConnectorSlot(connector_name="github_app", credentials_name="main")]
    response = await execute_with_connector_auth_async(polling_interval=1, connectors=bound, **helper)
    check(response.status == "COMPLETED", f"{response!r}")

    for slot in (
        ConnectorSlot(connector_name="github_app", credentials_name="nobody"),
        ConnectorSlot(connector_name="nowhere"),
    ):
        try:
            await execute_with_connector_auth_async(polling_interval=1, connectors=[slot], **helper)
        except Exception as error:
            # A wish that cannot be met fails the execution (RuntimeError) or is refused at once (an API error).
            check("FAILED" in str(error) or getattr(error, "status_code", 0) in (404, 422), repr(error))
        else:
            sys.exit(f"FAILED: {slot!r} was accepted")


def schedules(client):
    api = client.workflows.schedules
    made = api.schedule_workflow(
        workflow_identifier="hello",
        schedule={
            "input": {"name": "Ada"},
            "calendars": [{"hour": [{"start": 9}], "day_of_week": [{"start": 1, "end": 5}]}],
            "intervals": [{"every": "PT1H"}],
            "cron_expressions": ["30 8 * * *"],
            "skip": [{"month": [{"start": 12}]}],
            "start_at": datetime(2090, 1, 1, tzinfo=timezone.utc),
            "jitter": "PT5S",
            "time_zone_name": "Europe/Berlin",
            "policy": {"overlap": 2},
        },
        schedule_id="clock",
    )
    check(made.schedule_id == "clock", f"{made!r}")
    shown = api.get_schedule(schedule_id="clock")
    check(shown.workflow_name == "hello" and not shown.paused and shown.input == {"name": "Ada"}, f"{shown!r}")
    check(shown.future_executions[0].scheduled_at == datetime(2090, 1, 1, tzinfo=timezone.utc), f"{shown!r}")
    api.schedule_workflow(
        workflow_identifier="hello", schedule={"input": {"name": "Bo"}, "cron_expressions": ["@yearly"]}
    )
    found, page = [], api.get_schedules(page_size=1)
    while page is not None:
        found += page.result.schedules
        page = page.next()
    check(len(found) == 2, f"both schedules are listed over two pages: {found!r}")
    check(len(api.get_schedules(user_id="current", status="active").result.schedules) == 2, "all are listed at once")
    api.pause_schedule(schedule_id="clock", note="holidays")
    shown = api.get_schedule(schedule_id="clock")
    check(shown.paused and shown.note == "holidays", f"{shown!r}")
    api.update_schedule(schedule_id="clock", schedule={"jitter": None, "max_executions": 3})
    shown = api.get_schedule(schedule_id="clock")
    check(shown.jitter is None and shown.remaining_executions == 3 and shown.intervals[0].every == "PT1H", f"{shown!r}")
    api.trigger_schedule(schedule_id="clock")
    until(
        lambda: api.get_schedule(schedule_id="clock").recent_executions,
        "a trigger starts an execution, also while paused",
    )
    api.resume_schedule(schedule_id="clock")
    check(not api.get_schedule(schedule_id="clock").paused, "it goes on")
    for schedule in found:
        api.unschedule_workflow(schedule_id=schedule.schedule_id)
    refused(lambda: api.get_schedule(schedule_id="clock"), 404, "a schedule that was removed")
    personal = dict(workflow_identifier="github-issue-creator", schedule={"input": {}, "cron_expressions": ["@daily"]})
    says = refused(lambda: api.schedule_workflow(**personal), 422, "a workflow that needs its caller")
    check("no user present" in says, says)


def messages(client):
    api = client.workflows.executions
    made = client.workflows.execute_workflow(workflow_identifier="counter", input={}, execution_id="client-counter")
    check(made.status == "RUNNING", f"{made!r}")
    for n in (1, 2, 3):
        answer = api.signal_workflow_execution(execution_id="client-counter", name="add", input={"n": n})
        check(answer.message == "Signal accepted", f"{answer!r}")
    asked = api.query_workflow_execution(execution_id="client-counter", name="total", input={})
    check(asked.query_name == "total" and asked.result == 6, f"{asked!r}")
    done = api.update_workflow_execution(execution_id="client-counter", name="set", input={"total": 40})
    check(done.update_name == "set" and done.result == 6, f"{done!r}")
    says = refused(
        lambda: api.update_workflow_execution(execution_id="client-counter", name="set", input={"total": -1}),
        400,
        "an update that the workflow rejects",
    )
    check("a total is at least 0" in says, says)
    refused(
        lambda: api.signal_workflow_execution(execution_id="client-counter", name="nothing", input={}),
        404,
        "an unknown signal",
    )
    history = api.get_workflow_execution_history(execution_id="client-counter")
    first_signal = next(event["event_id"] for event in history["events"] if '"n": 1' in str(event).replace("'", '"'))
    api.reset_workflow(execution_id="client-counter", event_id=first_signal, reason="once more", exclude_signals=True)

    def total():
        try:
            return api.query_workflow_execution(execution_id="client-counter", name="total", input={}).result
        except Exception:  # the new run has not begun
            return None

    until(lambda: total() == 40, "a reset keeps later updates unless it is told not to")
    api.signal_workflow_execution(execution_id="client-counter", name="done", input={})
    until(
        lambda: api.get_workflow_execution(execution_id="client-counter").status != "RUNNING",
        "an execution that is done ends",
    )
    execution = api.get_workflow_execution(execution_id="client-counter")
    check(execution.status == "COMPLETED" and execution.result == {"result": 40}, f"{execution!r}")
    says = refused(
        lambda: client.workflows.execute_workflow(
            workflow_identifier="counter",
            input={},
            execution_id="client-wait",
            wait_for_result=True,
            timeout_seconds=0.05,
        ),
        408,
        "a wait that ran out",
    )
    check("client-wait" in says, f"it says what goes on: {says}")
    api.terminate_workflow_execution(execution_id="client-wait")
    family = client.workflows.execute_workflow(
        workflow_identifier="squares", input={"children": 3, "at_once": 2}, wait_for_result=True
    )
    check(family.result == {"result": 5}, f"{family!r}")
    ticks = client.workflows.execute_workflow(
        workflow_identifier="ticker", input={"at": 0, "to": 3}, wait_for_result=True
    )
    check(ticks.result["at"] == 3 and len(set(ticks.result["runs"])) == 4, f"{ticks!r}")
    listed = client.workflows.runs.list_runs(workflow_identifier="ticker", status="CONTINUED_AS_NEW")
    check(len(listed.result.executions) == 3, f"{listed!r}")


def deployments(client):
    api = client.workflows.deployments
    found = {one.name: one for one in api.list_deployments().deployments}
    check({"hello", "github_issues", "durable"} <= set(found), f"each plugin is a deployment: {set(found)!r}")
    check(all(one.is_active and one.active_worker_count == 1 for one in found.values()), f"{found!r}")
    shown = api.get_deployment(name="hello")
    check(shown.id == found["hello"].id and [worker.is_active for worker in shown.workers] == [True], f"{shown!r}")
    serving = api.list_deployments(workflow_name="counter").deployments
    check([one.name for one in serving] == ["durable"], f"{serving!r}")
    refused(lambda: api.get_deployment(name="nothing"), 404, "an unknown deployment")
    run = dict(workflow_identifier="hello", input={"name": "Ada"})
    made = client.workflows.execute_workflow(**run, deployment_name="hello")
    seen = client.workflows.executions.get_workflow_execution(execution_id=made.execution_id)
    check(seen.deployment_name == "hello" or generation < 3, f"{seen!r}")
    says = refused(
        lambda: client.workflows.execute_workflow(**run, deployment_name="nothing"), 422, "a start in no deployment"
    )
    check("no deployment is called 'nothing'" in says and "deployment_name" in says, says)
    says = refused(
        lambda: client.workflows.execute_workflow(**run, deployment_name="durable"), 422, "a start in another deployment"
    )
    check("'hello' serves it" in says, says)
    schedule = dict(workflow_identifier="hello", schedule={"input": {"name": "Bo"}, "cron_expressions": ["@yearly"]})
    refused(
        lambda: client.workflows.schedules.schedule_workflow(**schedule, deployment_name="nothing"),
        422,
        "a schedule in no deployment",
    )
    if hasattr(api, "list_deployment_workers"):
        workers = api.list_deployment_workers(name="hello", worker_status="active").workers
        check(len(workers) == 1, f"{workers!r}")
        check(api.list_deployment_workers(name="hello", worker_status="inactive").workers == [], "none is inactive")
    if hasattr(api, "restart_deployment"):
        says = refused(lambda: api.restart_deployment(name="hello"), 409, "a deployment that nobody manages")
        check("plugins folder" in says, says)


def main():
    with Mistral(api_key=key, server_url=daemon) as client:
        create_connector(client, "github_app")
        set_credential(client, "github_app", "main", token)
        workflows(client)
        messages(client)
        schedules(client)
        deployments(client)
        connectors(client)
        asyncio.run(on_behalf(client))
    with Mistral(api_key="al_wrong", server_url=daemon) as stranger:
        refused(stranger.workflows.get_workflows, 401, "a wrong key")
    print(f"mistralai {version('mistralai')}: {checks} checks hold")


main()
