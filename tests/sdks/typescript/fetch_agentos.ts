// The journey of `tests/sdks/journey.py` over AgentOS's routes with the SDK that openapi-generator's `typescript-fetch`
// writes into `sdk/`. Arguments: the server's address, a user's token, an administrator's token, a name. Prints what it
// saw as one line of JSON. Its methods give a stream as text.

import { AgentsApi, ApprovalsApi, Configuration, ResponseError, SessionsApi, type RunOutput } from './sdk';

declare const process: { argv: string[] };

const [basePath, accessToken, adminToken, name] = process.argv.slice(2);
const agentId = 'desk';

const stranger = new AgentsApi(new Configuration({ basePath }));
const agents = new AgentsApi(new Configuration({ basePath, accessToken }));
const approvals = new ApprovalsApi(new Configuration({ basePath, accessToken: adminToken }));
const sessions = new SessionsApi(new Configuration({ basePath, accessToken }));

async function created(message: string): Promise<RunOutput> {
    return await agents.createAgentRun({ agentId, createAgentRunRequest: { message, sessionId: name } });
}

// The API's answer to a request that is refused.
async function refusal(request: Promise<unknown>): Promise<Response> {
    try {
        await request;
    } catch (error) {
        if (error instanceof ResponseError) {
            return error.response;
        }
        throw error;
    }
    throw new Error('the request was not refused');
}

async function lastPause(runId: string) {
    const text = (await agents.followAgentRun({ agentId, runId })) ?? '';
    const paused = text.split('\n\n').find((frame) => frame.includes('event: RunPaused')) ?? '';
    return JSON.parse(paused.split('\n').find((line) => line.startsWith('data: '))?.slice(6) ?? 'null');
}

async function confirmed() {
    const paused = await created(`delete ${name}`);
    const waiting = paused.tools.filter((call) => call.requiresConfirmation);
    const event = await lastPause(paused.runId);
    const request = {
        agentId,
        runId: paused.runId,
        continueAgentRunRequest: {
            tools: waiting.map((call) => ({ toolCallId: call.toolCallId, confirmed: true })),
            sessionId: paused.sessionId,
            pauseId: paused.pauseId,
        },
    };
    const ended = await agents.continueAgentRun(request);
    const again = await refusal(agents.continueAgentRun(request));
    return {
        statuses: [paused.status, ended.status],
        calls: waiting.map((call) => [call.toolName, call.toolArgs]),
        followed: [event.tools.map((call: { tool_name: string }) => call.tool_name), event.pause_id === paused.pauseId],
        content: ended.content,
        user_id: ended.userId,
        again: again.status,
    };
}

async function approved() {
    const paused = await created(`deploy ${name}`);
    const approvalId = paused.tools[0]?.approvalId;
    if (!approvalId) {
        throw new Error('the call waits for no approval');
    }
    const approval = await approvals.resolveApprovalApprovalsApprovalIdResolvePost({
        approvalId,
        approvalResolve: { status: 'approved' },
    });
    const runId = paused.runId;
    const ended = await agents.continueAgentRun({ agentId, runId, continueAgentRunRequest: { tools: [] } });
    return [approval.status, approval.toolName, approval.runStatus, ended.status, ended.content];
}

async function journey() {
    const refused = await refusal(stranger.createAgentRun({ agentId, createAgentRunRequest: { message: 'say no' } }));
    const seen = await confirmed();
    const approval = await approved();
    const { meta } = await sessions.getSessions();
    const runs = await agents.listAgentRuns({ agentId, sessionId: name });
    return {
        ...seen,
        refused: [refused.status, (await refused.json()).detail],
        approval,
        sessions: meta.totalCount,
        runs: runs.map((run) => run.status),
    };
}

journey().then((seen) => console.log(JSON.stringify(seen)));
