// The life of a link with openapi-typescript and openapi-fetch.
import createClient from 'openapi-fetch';
import type { components, paths } from './schema';
import { base, closedTicket, codeOf, done, ending, grant, key, mailedToken, report, step } from './steps';

type Schemas = components['schemas'];
const api = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${key}` } });
// The documentation's way to send a form.
const form = {
  bodySerializer: (body: object) => new URLSearchParams(body as Record<string, string>),
  headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
};
let consultant: Schemas['ConsultantResponse'], link: Schemas['LinkResponse'], session: Schemas['OpenedSession'];
let token = '', code = '';
const header = { 'Idempotency-Key': crypto.randomUUID() };

await step('register a consultant', async () => {
  const body = { name: 'Ravi Kumar', email: `ravi-${crypto.randomUUID()}@support.example` };
  consultant = (await api.POST('/v1/consultants', { body })).data!;
  return consultant.state === 'active';
});
const first: Schemas['IssueLink'] = grant(consultant!.id, 'SUP-1', 1042);
await step('issue a link', async () => {
  link = (await api.POST('/v1/magic-links', { body: first, params: { header } })).data!;
  return link.state === 'active';
});
await step('issue it again with its key', async () => {
  const again = await api.POST('/v1/magic-links', { body: first, params: { header } });
  return again.data?.id === link.id;
});
await step('read the link', async () => {
  const read = await api.GET('/v1/magic-links/{id}', { params: { path: { id: link.id } } });
  return read.data?.profile.name === 'Asha Rao' && Date.parse(read.data.expires_at) > Date.now();
});
await step('list with a filter, page by page', async () => {
  for (const number of [1, 2, 3]) await api.POST('/v1/magic-links', { body: grant(consultant.id, 'SUP-2', number) });
  let cursor: string | undefined, seen = 0, pages = 0;
  do {
    const query = { tenant_id: 'acme', state: 'active', ticket: 'SUP-2', page_size: 2, cursor };
    const page = (await api.GET('/v1/magic-links', { params: { query } })).data!;
    seen += page.items.length;
    pages++;
    cursor = page.next_cursor;
  } while (cursor);
  return seen === 3 && pages === 2;
});
await step('preview the landing page', async () => {
  token = await mailedToken(link.id);
  return (await api.POST('/l/preview', { body: { token } })).data?.state === 'ready';
});
await step('continue to the portal', async () => {
  code = codeOf((await api.POST('/l/continue', { body: { token } })).data!.redirect_url!);
  return code.length > 0;
});
await step('redeem the code', async () => {
  session = (await api.POST('/v1/sessions', { body: { token: code, visitor: { address: '203.0.113.7' } } })).data!;
  return session.access_token.length > 0;
});
await step('introspect, as a form', async () => {
  const found = await api.POST('/v1/introspect', { body: { token: session.access_token }, ...form });
  // It may be JSON or, where asked for, a JWT.
  return typeof found.data === 'object' && found.data.active && found.data.sid === session.id && found.data.act?.sub === consultant.id;
});
await step('report events', async () => {
  const params = { path: { id: session.id } };
  return (await api.POST('/v1/sessions/{id}/events', { params, body: report() })).data?.recorded === 1;
});
await step('end the session', async () => {
  const ended = await api.POST('/v1/sessions/{id}/end', { params: { path: { id: session.id } }, body: ending });
  return ended.data?.state === 'ended' && ended.data.audit_state === 'complete';
});
await step('introspect after the end', async () => {
  const found = await api.POST('/v1/introspect', { body: { token: session.access_token }, ...form });
  return typeof found.data === 'object' && !found.data.active;
});
await step('revoke the link', async () => {
  const body = { reason: 'The work is done', requested_by: { id: 'emp-7', name: 'Meera Iyer' } };
  return (await api.POST('/v1/magic-links/{id}/revoke', { params: { path: { id: link.id } }, body })).data?.state === 'revoked';
});
await step('revoke by ticket', async () => {
  return (await api.POST('/v1/revocations', { body: closedTicket })).data?.links === 3;
});
await step('read the audit log', async () => {
  const events = await api.GET('/v1/audit-events', { params: { query: { magic_link_id: link.id, page_size: 200 } } });
  return events.data!.items.some(event => event.type === 'magic_link.revoked');
});
await step('read evidence', async () => {
  const pack = await api.GET('/v1/magic-links/{id}/evidence', { params: { path: { id: link.id } } });
  return typeof pack.data?.evidence === 'object';
});
await step('read a checkpoint', async () => {
  const note = await api.GET('/v1/audit-log/{tenant_id}/checkpoint', { params: { path: { tenant_id: 'acme' } }, parseAs: 'text' });
  return note.data!.includes('/audit/acme');
});
await step('read the code of a refusal', async () => {
  const refused = await api.GET('/v1/magic-links/{id}', { params: { path: { id: 'mlk_00000000000000000000000000' } } });
  const found: Schemas['ProblemCode'] | undefined = refused.error?.code;
  return found === 'not_found';
});
await step('read which field is wrong', async () => {
  const refused = await api.POST('/v1/magic-links', { body: { ...grant(consultant.id, 'SUP-3', 4), reason: 'short' } });
  return refused.error?.code === 'validation_failed' && refused.error.errors?.[0]?.pointer === '/reason';
});
done();
