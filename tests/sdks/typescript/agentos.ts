// The journey of `tests/sdks/journey.py` over AgentOS's routes with the SDK that @hey-api/openapi-ts writes into `sdk/`.
// Arguments: the server's address, a user's token, an administrator's token, a name. Prints what it saw as one line of
// JSON. There is no cast and no `any` in it.

import {
    continueAgentRun,
    createAgentRun,
    followAgentRun,
    getSessions,
    listAgentRuns,
    resolveApprovalApprovalsApprovalIdResolvePost as resolveApproval,
    type RunAcceptedResponse,
    type RunOutput,
    type RunPausedEvent,
} from './sdk';
import { createClient, createConfig } from './sdk/client';

declare const process: { argv: string[] };

const [baseUrl, token, adminToken, name] = process.argv.slice(2);
const agent = { agent_id: 'desk' };

const stranger = createClient(createConfig({ baseUrl }));
const client = createClient(createConfig({ baseUrl, auth: token }));
const admin = createClient(createConfig({ baseUrl, auth: adminToken }));

// With `background` the answer would be the ids alone.
function whole(run: RunOutput | RunAcceptedResponse): RunOutput {
    if (!('tools' in run)) {
        throw new Error(`run ${run.run_id} goes on in the background`);
    }
    return run;
}

async function created(message: string): Promise<RunOutput> {
    const body = { message, session_id: name };
    return whole((await createAgentRun({ client, path: agent, body, throwOnError: true })).data);
}

async function lastPause(run_id: string): Promise<RunPausedEvent> {
    const { stream } = await followAgentRun({ client, path: { ...agent, run_id } });
    for await (const event of stream) {
        if (event.event === 'RunPaused') {
            return event;
        }
    }
    throw new Error(`run ${run_id} has not paused`);
}

async function confirmed() {
    const paused = await created(`delete ${name}`);
    const waiting = paused.tools.filter((call) => call.requires_confirmation);
    const event = await lastPause(paused.run_id);
    const path = { ...agent, run_id: paused.run_id };
    const body = {
        tools: waiting.map((call) => ({ tool_call_id: call.tool_call_id, confirmed: true })),
        session_id: paused.session_id,
        pause_id: paused.pause_id,
    };
    const ended = whole((await continueAgentRun({ client, path, body, throwOnError: true })).data);
    const again = await continueAgentRun({ client, path, body });
    return {
        statuses: [paused.status, ended.status],
        calls: waiting.map((call) => [call.tool_name, call.tool_args]),
        followed: [event.tools.map((call) => call.tool_name), event.pause_id === paused.pause_id],
        content: ended.content,
        user_id: ended.user_id,
        again: again.response?.status,
    };
}

async function approved() {
    const paused = await created(`deploy ${name}`);
    const [call] = paused.tools;
    if (!call?.approval_id) {
        throw new Error('the call waits for no approval');
    }
    const { data: approval } = await resolveApproval({
        client: admin,
        path: { approval_id: call.approval_id },
        body: { status: 'approved' },
        throwOnError: true,
    });
    const path = { ...agent, run_id: paused.run_id };
    const ended = whole((await continueAgentRun({ client, path, body: { tools: [] }, throwOnError: true })).data);
    return [approval.status, approval.tool_name, approval.run_status, ended.status, ended.content];
}

async function journey() {
    const refused = await createAgentRun({ client: stranger, path: agent, body: { message: 'say no' } });
    const seen = await confirmed();
    const approval = await approved();
    const { data: sessions } = await getSessions({ client, throwOnError: true });
    const { data: runs } = await listAgentRuns({ client, path: agent, query: { session_id: name }, throwOnError: true });
    return {
        ...seen,
        refused: [refused.response?.status, refused.error && 'detail' in refused.error && refused.error.detail],
        approval,
        sessions: sessions.meta.total_count,
        runs: runs.map((run) => run.status),
    };
}

journey().then((seen) => console.log(JSON.stringify(seen)));
