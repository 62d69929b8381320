/** A make-believe portal behind the guard. All data is invented, and gone on restart. */
import express, { type Response } from 'express';
import { MagicLink, Stop, escape, page, unreadable } from './magic-link.js';

const { PORTAL_CLOUD_KEY: key, PORTAL_LISTEN: listen = '127.0.0.1:8081', PORTAL_SERVICE_URL: service = 'http://127.0.0.1:8080',
  PORTAL_PUBLIC_URL: publicUrl = 'http://127.0.0.1:8081', PORTAL_WEBHOOK_SECRET: webhookSecret } = process.env;
if (!key) throw new Error('PORTAL_CLOUD_KEY is not set');

const guard = new MagicLink({ service, key, publicUrl, portal: 'cloud', webhookSecret });
const app = express().disable('x-powered-by').use(guard.routes());
const pages = express.Router({ mergeParams: true, strict: true });
app.use('/:tenant/cloud', guard.protect, pages, guard.notices).use(guard.notices);

const employees = new Map([['emp-9', { name: 'Nikhil Menon', bank_account: '0072 0167 3390', salary: '50000' }]]);
let changes: Promise<unknown> = Promise.resolve();  // one after the other, so that `before` is what the change really replaces

function find(id: string) {
  const employee = employees.get(id);
  if (!employee) throw new Stop(404, 'refused', 'There is no such page');
  return employee;
}

/** CSV in which a value stays in its cell, and is no formula to a spreadsheet, with whatever separator that reads it. */
function table(rows: string[][]): string {
  const harmless = (cell: string) => cell.replace(/((?:^|[;\t\r\n])[ "']*)(?=[=+\-@\t\r\n＝＋－＠])/g, "$1'");
  return rows.map((row) => `${row.map((cell) => `"${harmless(cell).replaceAll('"', '""')}"`).join(',')}\r\n`).join('');
}

pages.get('/', (_, response) => {
  const visitor = guard.visitor(response);
  response.send(page('home', `Welcome, ${visitor.profile.name}`, `<p><a href="employees/emp-9">An employee</a>,
    <a href="employees.csv">all of them as a file</a>, <a href="leave-policy">the leave policy</a></p>`, visitor));
});

pages.get('/employees/:id', async ({ params: { id } }, response) => {
  const employee = find(id), visitor = guard.visitor(response);
  await visitor.report('employees', { kind: 'view', action: 'employee.viewed', resource_type: 'employee', resource_id: id, principal_id: id });
  const field = (name: 'bank_account' | 'salary') => `<p><label>${name} <input name="${name}" value="${escape(employee[name])}"></label></p>`;
  response.send(page('employee', employee.name, `<form id="edit-employee" method="post">${field('bank_account')}${field('salary')}<button id="save">Save</button></form>`, visitor));
});

pages.post('/employees/:id', express.urlencoded({ extended: false }), async ({ params: { id }, body }, response) => {
  const mine = changes.then(() => edit(response, id, body));    // waited for before the report, which asks once more
  changes = mine.catch(() => undefined);
  await mine;
  response.redirect(303, id);
});

async function edit(response: Response, id: string, form: Record<string, unknown> = {}) {
  const employee = find(id), names = ['bank_account', 'salary'] as const;
  const wanted = names.map((field) => ({ field, before: employee[field], after: form[field] }));
  const changed = wanted.filter((one): one is typeof one & { after: string } => one.before !== one.after);
  if (changed.some(({ after }) => typeof after !== 'string')) throw unreadable();   // missing, sent twice, or no form at all
  if (changed.some(({ after }) => /[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(after))) throw new Stop(422, 'refused', 'This cannot be saved', 'It has a line break or another control character in it.');
  if (changed.length === 0) return;
  const category = changed.some(({ field }) => field === 'bank_account') ? 'bank_account' : undefined;
  await guard.visitor(response).report('employees',
    { kind: 'change', action: 'employee.updated', resource_type: 'employee', resource_id: id, principal_id: id, category, changes: changed });
  for (const { field, after } of changed) employee[field] = after;  // no pause between the record and the deed
}

pages.get('/employees.csv', async (_, response) => {
  await guard.visitor(response).report('employees', { kind: 'export', action: 'employees.exported', resource_type: 'employee_list', resource_id: 'all', category: 'export', principal_ids: [...employees.keys()] });
  response.type('text/csv').send(table([...employees].map(([id, { name }]) => [id, name])));
});

pages.get('/bank-accounts.csv', async (_, response) => {
  await guard.visitor(response).report('employees', { kind: 'export', action: 'bank_accounts.exported', resource_type: 'employee_list', resource_id: 'all', category: 'bank_account', principal_ids: [...employees.keys()] });
  response.type('text/csv').send(table([...employees].map(([id, { bank_account }]) => [id, bank_account])));
});

pages.get('/leave-policy', async (_, response) => {
  const visitor = guard.visitor(response);
  await visitor.report('leave', { kind: 'view', action: 'leave_policy.viewed', resource_type: 'leave_policy', resource_id: 'default' });
  response.send(page('leave-policy', 'Leave policy', '<p>24 days a year.</p>', visitor));
});

const [, host, port] = /^(.*):(.*)$/.exec(listen) ?? [];   // or unix:/a/path
app.listen(host === 'unix' ? { path: port } : { host: host!.replace(/[[\]]/g, ''), port: Number(port) }, () => console.log(`The portal listens on http://${listen}`));
