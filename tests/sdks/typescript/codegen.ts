// The journey of `tests/sdks/journey.py` with the SDK that @hey-api/openapi-ts writes into `sdk/`.
// Arguments: the server's address, a token, a name. Prints what it saw as one line of JSON.

import {
    createAgentRunV1OrganizationsOrgIdAgentRunPost as createRun,
    getAgentRunLogsV1AlphaOrganizationsOrgIdAgentRunAgentRunIdLogsGet as getLogs,
    getAgentRunV1OrganizationsOrgIdAgentRunAgentRunIdGet as getRun,
    listAgentRunsV1OrganizationsOrgIdAgentRunsGet as listRuns,
    resumeAgentRunV1OrganizationsOrgIdAgentRunResumePost as resumeRun,
    type AgentRunResponse,
} from './sdk';
import { client } from './sdk/client.gen';

declare const process: { argv: string[] };

const [address, token, name] = process.argv.slice(2);
const org_id = 1;
const deadline = Date.now() + 60_000;

client.setConfig({ baseUrl: address, headers: { authorization: `Bearer ${token}` }, throwOnError: true });

async function settled(agent_run_id: number): Promise<AgentRunResponse> {
    for (;;) {
        const { data: run } = await getRun({ path: { org_id, agent_run_id }, throwOnError: true });
        if (run.status !== 'ACTIVE' || Date.now() > deadline) {
            return run;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}

async function loggedTypes(agent_run_id: number, reverse: boolean) {
    const { data } = await getLogs({ path: { org_id, agent_run_id }, query: { reverse }, throwOnError: true });
    return { types: data.logs.map((entry) => entry.message_type), total: data.total_logs };
}

async function journey() {
    const metadata = { by: name };
    const { data: created } = await createRun({
        path: { org_id },
        body: { prompt: `delete ${name}`, metadata },
        throwOnError: true,
    });
    const paused = await settled(created.id);
    const body = { agent_run_id: created.id, prompt: `say kept ${name}` };
    const { data: resumed } = await resumeRun({ path: { org_id }, body, throwOnError: true });
    const ended = await settled(created.id);
    const { data: page } = await listRuns({ path: { org_id }, query: { source_type: 'API' }, throwOnError: true });
    const again = await resumeRun({ path: { org_id }, body, throwOnError: false });
    return {
        statuses: [created, paused, resumed, ended].map((run) => run.status),
        one_run: [paused, resumed, ended].every((run) => run.id === created.id),
        metadata: ended.metadata,
        awaited: paused.result,
        result: ended.result,
        listed: page.items.some((run) => run.id === created.id),
        page: [page.page, page.size, page.pages],
        log: await loggedTypes(created.id, false),
        log_reversed: await loggedTypes(created.id, true),
        again: [again.response?.status, again.error && 'message' in again.error],
    };
}

journey().then((seen) => console.log(JSON.stringify(seen)));
