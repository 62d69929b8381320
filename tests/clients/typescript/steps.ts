// What both flows share: where the service is, one line for each step, and the mail.
import { env, exit } from 'node:process';

export const base = env.CLIENTS_BASE!;
export const key = env.CLIENTS_KEY!;
let failed = false;

export async function step(name: string, run: () => Promise<boolean>) {
  let why = 'not the answer that was expected';
  try {
    if (await run()) return console.log(`passed\t${name}`);
  } catch (error) {
    why = String(error);
  }
  failed = true;
  console.log(`failed\t${name}\t${why.replaceAll('\n', ' ')}`);
}

export const done = () => exit(failed ? 1 : 0);
export const mailedToken = async (link: string) => (await fetch(`${env.CLIENTS_MAIL}/${link}`)).text();
export const codeOf = (address: string) => new URL(address).searchParams.get('code')!;

// openapi-typescript wants every member that has a default, unless it is told otherwise; so they are all here.
export const grant = (consultant: string, ticket: string, number: number) => ({
  tenant_id: 'acme', portal: 'cloud', consultant_id: consultant, ticket, access: 'full' as const, forbidden: [],
  reason: 'Payroll run for November stops at step 3', duration: { value: 4, unit: 'hours' as const },
  profile: { id: `emp-${number}`, name: 'Asha Rao' }, issued_by: { id: 'emp-7', name: 'Meera Iyer' },
  reentry: 'mail' as const, replace: false, validate_only: false,
});

export const ending = { consultant_done: false, sources: { portal: 1 } };
export const closedTicket = { tenant_id: 'acme', ticket: 'SUP-2', reason: 'The ticket was closed', dry_run: false, everything: false };

export const report = () => ({
  events: [{
    seq: 1, source: 'portal', kind: 'change' as const, occurred_at: new Date().toISOString(), action: 'employee.salary.updated',
    resource_type: 'employee', resource_id: 'emp-9', principal_ids: [], changes: [{ field: 'basic', before: '50000', after: '52000' }],
  }],
});
