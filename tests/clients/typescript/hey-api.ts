// The life of a link with hey-api.
import * as api from './hey';
import { client } from './hey/client.gen';
import { base, closedTicket, codeOf, done, ending, grant, key, mailedToken, report, step } from './steps';

client.setConfig({ baseUrl: base, auth: key });
let consultant: api.ConsultantResponse, link: api.LinkResponse, session: api.OpenedSession;
let token = '', code = '';
const headers = { 'Idempotency-Key': crypto.randomUUID() };

await step('register a consultant', async () => {
  const body = { name: 'Ravi Kumar', email: `ravi-${crypto.randomUUID()}@support.example` };
  consultant = (await api.registerConsultant({ body })).data!;
  return consultant.state === 'active';
});
const first: api.IssueLink = grant(consultant!.id, 'SUP-1', 1042);
await step('issue a link', async () => {
  link = (await api.issueMagicLink({ body: first, headers })).data!;
  return link.state === 'active';
});
await step('issue it again with its key', async () => (await api.issueMagicLink({ body: first, headers })).data?.id === link.id);
await step('read the link', async () => {
  const read = await api.getMagicLink({ path: { id: link.id } });
  return read.data?.profile.name === 'Asha Rao' && Date.parse(read.data.expires_at) > Date.now();
});
await step('list with a filter, page by page', async () => {
  for (const number of [1, 2, 3]) await api.issueMagicLink({ body: grant(consultant.id, 'SUP-2', number) });
  let cursor: string | undefined, seen = 0, pages = 0;
  do {
    const page: api.PageLinkResponse = (await api.listMagicLinks({ query: { tenant_id: 'acme', state: 'active', ticket: 'SUP-2', page_size: 2, cursor } })).data!;
    seen += page.items.length;
    pages++;
    cursor = page.next_cursor;
  } while (cursor);
  return seen === 3 && pages === 2;
});
await step('preview the landing page', async () => {
  token = await mailedToken(link.id);
  return (await api.previewLink({ body: { token } })).data?.state === 'ready';
});
await step('continue to the portal', async () => {
  code = codeOf((await api.continueLink({ body: { token } })).data!.redirect_url!);
  return code.length > 0;
});
await step('redeem the code', async () => {
  session = (await api.openSession({ body: { token: code, visitor: { address: '203.0.113.7' } } })).data!;
  return session.access_token.length > 0;
});
await step('introspect, as a form', async () => {
  const found = await api.introspectToken({ body: { token: session.access_token } });
  return found.data?.active === true && found.data.sid === session.id && found.data.act?.sub === consultant.id;
});
await step('report events', async () => (await api.reportEvents({ path: { id: session.id }, body: report() })).data?.recorded === 1);
await step('end the session', async () => {
  const ended = await api.endSession({ path: { id: session.id }, body: ending });
  return ended.data?.state === 'ended' && ended.data.audit_state === 'complete';
});
await step('introspect after the end', async () => (await api.introspectToken({ body: { token: session.access_token } })).data?.active === false);
await step('revoke the link', async () => {
  const body = { reason: 'The work is done', requested_by: { id: 'emp-7', name: 'Meera Iyer' } };
  return (await api.revokeMagicLink({ path: { id: link.id }, body })).data?.state === 'revoked';
});
await step('revoke by ticket', async () => {
  return Number((await api.createRevocation({ body: closedTicket })).data?.links) === 3;
});
await step('read the audit log', async () => {
  const events = await api.listAuditEvents({ query: { magic_link_id: link.id, page_size: 200 } });
  return events.data!.items.some(event => event.type === 'magic_link.revoked');
});
await step('read evidence', async () => typeof (await api.getEvidence({ path: { id: link.id } })).data?.evidence === 'object');
await step('read a checkpoint', async () => {
  const note = (await api.getCheckpoint({ path: { tenant_id: 'acme' } })).data!;
  return (typeof note === 'string' ? note : await (note as Blob).text()).includes('/audit/acme');
});
await step('read the code of a refusal', async () => {
  const refused = await api.getMagicLink({ path: { id: 'mlk_00000000000000000000000000' } });
  const found: api.ProblemCode | undefined = refused.error?.code;
  return found === 'not_found';
});
await step('read which field is wrong', async () => {
  const refused = await api.issueMagicLink({ body: { ...grant(consultant.id, 'SUP-3', 4), reason: 'short' } });
  return refused.error?.code === 'validation_failed' && refused.error.errors?.[0]?.pointer === '/reason';
});
done();
