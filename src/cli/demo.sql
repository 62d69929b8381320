-- What the examples of the API description name. Nobody knows a key of the client.
-- ACME shows values, so that the portal's record has something to show.
INSERT INTO tenants (id, name, time_zone, contacts, created_at, updated_at, change_values) VALUES
    ('acme', 'ACME Ltd', 'Asia/Kolkata', '[{"name":"Meera Iyer","email":"hr@acme.example"}]', datetime('now'), datetime('now'), 'plain'),
    ('globex', 'Globex', 'Asia/Kolkata', '[{"name":"Vikram Shah","email":"vikram.shah@globex.example"}]', datetime('now'), datetime('now'), 'masked'),
    ('initech', 'Initech', 'Asia/Kolkata', '[{"name":"Leela Nair","email":"leela.nair@initech.example"}]', datetime('now'), datetime('now'), 'masked')
    ON CONFLICT DO NOTHING;
-- At Globex a second person approves each access.
INSERT INTO tenant_policies (tenant_id, seq, policy, actor_type, actor_id, created_at) VALUES
    ('globex', 1, '{"approval":{"required_for":"always"}}', 'system', 'demo', datetime('now', '-1 hour'))
    ON CONFLICT DO NOTHING;
INSERT INTO consultants (id, name, email, email_key, created_at, updated_at) VALUES
    ('con_01kaq3v9e8fwmvd2x7n0c5hb3z', 'Ravi Kumar', 'ravi.kumar@support.example', 'ravi.kumar@support.example',
     datetime('now', '-1 hour'), datetime('now', '-1 hour')),
    ('con_01kaq3v9e8fwmvd2x7n0c5hd2z', 'Anil Menon', 'anil.menon@support.example', 'anil.menon@support.example',
     datetime('now', '-1 hour'), datetime('now', '-1 hour'));
INSERT INTO consultants (id, name, email, email_key, created_at, updated_at, suspended_at, suspend_reason) VALUES
    ('con_01kaq3v9e8fwmvd2x7n0c5hd1z', 'Priya Nair', 'priya.nair@support.example', 'priya.nair@support.example',
     datetime('now', '-1 hour'), datetime('now', '-1 hour'), datetime('now', '-1 hour'), 'On leave');
INSERT INTO clients (id, name, portal, tenants, scopes, key_sha256, created_at) VALUES
    ('cli_01kaq3v9e8fwmvd2x7n0c5hb4z', 'Example client', 'cloud', 'acme', 'links:read links:request', '', datetime('now', '-1 hour')),
    ('cli_01kaq3v9e8fwmvd2x7n0c5hd1z', 'Client to rotate', 'cloud', 'acme', 'links:read', '', datetime('now', '-1 hour')),
    ('cli_01kaq3v9e8fwmvd2x7n0c5hd2z', 'Client to disable', 'cloud', 'acme', 'links:read', '', datetime('now', '-1 hour'));
-- Of other profiles than the example that issues a link: one access has one link.
INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, ticket, access,
    starts_at, expires_at, issued_by_id, issued_by_name, client_id, created_at, generation, spent_at) VALUES
    ('mlk_01kaq3v9e8fwmvd2x7n0c5hb1z', 'acme', 'cloud', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z', 'emp-1051', 'Kiran Patel',
     'Payroll run for November stops at step 3', 'SUP-48213', 'full', datetime('now', '-1 hour'), datetime('now', '+27 days'),
     'emp-7', 'Meera Iyer', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z', datetime('now', '-1 hour'), 1, datetime('now', '-30 minutes'));
-- One that lasts longer than any document.
INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access, starts_at,
    expires_at, issued_by_id, issued_by_name, client_id, created_at, generation, spent_at) VALUES
    ('mlk_01kaq3v9e8fwmvd2x7n0c5hb6z', 'acme', 'cloud', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z', 'emp-7', 'Meera Iyer',
     'Migration of the payroll archive', 'read_only', datetime('now', '-1 hour'), datetime('now', '+50 years'), 'emp-7',
     'Meera Iyer', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z', datetime('now', '-1 hour'), 1, datetime('now', '-30 minutes'));
-- One to revoke, two with a session to end and to revoke, and three with an extension that waits: to approve, to deny, to withdraw.
INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access, starts_at,
    expires_at, issued_by_id, issued_by_name, client_id, created_at, generation, spent_at)
    SELECT id, 'acme', 'cloud', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z', profile, 'Asha Rao', 'Leave balances of October are wrong', 'full',
    datetime('now', '-1 hour'), datetime('now', '+5 days'), 'emp-7', 'Meera Iyer', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z',
    datetime('now', '-1 hour'), 1, datetime('now', '-30 minutes') FROM (
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hd1z' AS id, 'emp-1081' AS profile UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hd2z', 'emp-1082' UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hd3z', 'emp-1083' UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hc2z', 'emp-1071' UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hc3z', 'emp-1072' UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hc4z', 'emp-1073');
-- Of these links alone: somebody may have issued others before.
INSERT INTO open_grants (tenant_id, portal, consultant_id, profile_id, magic_link_id, until)
    SELECT tenant_id, portal, consultant_id, profile_id, id, expires_at FROM magic_links
    WHERE client_id = 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z';
INSERT INTO extension_requests (id, magic_link_id, previous_expires_at, hours, reason, asked_by_id, asked_by_name, asked_by_email,
    created_at, lapses_at, state)
    SELECT 'ext_' || substr(id, 5), id, expires_at, 1, 'The payroll run has to be repeated', 'emp-7', 'Meera Iyer', 'hr@acme.example',
    created_at, expires_at, 'pending' FROM magic_links
    WHERE client_id = 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z' AND profile_id LIKE 'emp-107_';
INSERT INTO status_lists (id, created_at) VALUES (1, datetime('now', '-30 minutes')) ON CONFLICT DO NOTHING;
INSERT INTO sessions (id, magic_link_id, generation, tenant_id, portal, consultant_id, profile_id, profile_name, access,
    reason, client_id, started_at, expires_at, kid, status_list, status_index) VALUES
    ('ses_01kaq3v9e8fwmvd2x7n0c5hb2z', 'mlk_01kaq3v9e8fwmvd2x7n0c5hb1z', 1, 'acme', 'cloud',
     'con_01kaq3v9e8fwmvd2x7n0c5hb3z', 'emp-1051', 'Kiran Patel', 'full', 'Payroll run for November stops at step 3', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z',
     datetime('now', '-30 minutes'), datetime('now', '+27 days'), 'demo', 1, 0);
INSERT INTO sessions (id, magic_link_id, generation, tenant_id, portal, consultant_id, profile_id, profile_name, access,
    reason, client_id, started_at, expires_at, kid, status_list, status_index)
    SELECT 'ses_' || substr(id, 5), id, 1, tenant_id, portal, consultant_id, profile_id, profile_name, access, reason, client_id,
    spent_at, expires_at, 'demo', 1, CAST(substr(profile_id, 8) AS INTEGER)
    FROM magic_links WHERE client_id = 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z' AND profile_id IN ('emp-1082', 'emp-1083');
INSERT INTO revocations (id, seq, every_tenant, profile_id, reason, dry_run, links, sessions, actor_type, actor_id,
    created_at, done_at) VALUES
    ('rvk_01kaq3v9e8fwmvd2x7n0c5hbaz', (SELECT coalesce(max(seq), 0) + 1 FROM revocations), TRUE, 'emp-1051',
     'What would a revocation hit?', TRUE, 1, 1, 'system', 'demo', datetime('now', '-1 hour'), datetime('now', '-1 hour'));
INSERT INTO legal_holds (id, tenant_id, reason, placed_at, placed_by_type, placed_by_id) VALUES
    ('hld_01kaq3v9e8fwmvd2x7n0c5hb7z', 'globex', 'Labour court, case 2026-118', datetime('now', '-1 hour'), 'system', 'demo');
-- A key that has gone: what is asked of it changes nothing.
INSERT INTO signing_keys (kid, algorithm, public_jwk, sealed_private_key, created_at, active_from, expires_at, retired_at) VALUES
    ('demo', 'ES256', '{}', '', datetime('now', '-90 days'), datetime('now', '-90 days'), datetime('now', '-1 day'),
     datetime('now', '-60 days'));
-- Three that wait for an approval: one to approve, one to deny, one to withdraw.
INSERT INTO link_requests (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access, reentry, starts_at, hours,
    issued_by_id, issued_by_name, issued_by_email, client_id, created_at, lapses_at, replaces, state)
    SELECT id, 'acme', 'cloud', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z', profile, 'Asha Rao', 'Leave balances of October are wrong',
    'full', 'mail', datetime('now'), 4, 'emp-7', 'Meera Iyer', 'hr@acme.example', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z',
    datetime('now', '-1 hour'), datetime('now', '+27 days'), FALSE, 'pending' FROM (
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hb8z' AS id, 'emp-1061' AS profile UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hb9z', 'emp-1062' UNION ALL
    SELECT 'mlk_01kaq3v9e8fwmvd2x7n0c5hbaz', 'emp-1063');
-- One that was issued in an emergency, has ended, and waits for its review.
INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access, starts_at,
    expires_at, issued_by_id, issued_by_name, client_id, created_at, generation, revoked_at, revoke_reason) VALUES
    ('mlk_01kaq3v9e8fwmvd2x7n0c5hbbz', 'acme', 'cloud', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z', 'emp-1054', 'Nikhil Menon',
     'The payroll run is stuck', 'full', datetime('now', '-1 hour'), datetime('now', '+3 hours'), 'emp-7', 'Meera Iyer',
     'cli_01kaq3v9e8fwmvd2x7n0c5hb4z', datetime('now', '-1 hour'), 1, datetime('now', '-30 minutes'), 'The work is done');
INSERT INTO link_reviews (magic_link_id, tenant_id, portal, profile_id, justification, created_at, review_due_at) VALUES
    ('mlk_01kaq3v9e8fwmvd2x7n0c5hbbz', 'acme', 'cloud', 'emp-1054', 'Salaries are paid in one hour, and the run is stuck',
     datetime('now', '-1 hour'), datetime('now', '+71 hours'));
INSERT INTO mail_jobs (id, template, dedup_key, consultant_id, tenant_id, portal, magic_link_id, generation, state, attempts,
    unknown_attempts, retry_round, next_attempt_at, provider, last_error, created_at, finished_at) VALUES
    ('mjb_01kaq3v9e8fwmvd2x7n0c5hb6z', 'magic_link', 'mlk_01kaq3v9e8fwmvd2x7n0c5hb6z 1', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z',
     'acme', 'cloud', 'mlk_01kaq3v9e8fwmvd2x7n0c5hb6z', 1, 'failed', 1, 0, 0, datetime('now', '-1 hour'), 'mailpit',
     '422 Unprocessable Entity', datetime('now', '-1 hour'), datetime('now', '-1 hour'));
INSERT INTO mail_suppressions (id, address, address_key, cause, provider, mail_job_id, created_at) VALUES
    ('sup_01kaq3v9e8fwmvd2x7n0c5hb9z', 'former@support.example', 'former@support.example', 'bounce', 'mailpit',
     'mjb_01kaq3v9e8fwmvd2x7n0c5hb6z', datetime('now', '-1 hour'));
-- Nobody knows its secret, not even the service: it gets nothing.
INSERT INTO webhook_endpoints (id, client_id, url, events, format, sealed_secret, created_at, updated_at) VALUES
    ('whe_01kaq3v9e8fwmvd2x7n0c5hc1z', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z', 'https://portal.example/webhooks/magic-link',
     '*', 'cloudevents', '', datetime('now', '-1 hour'), datetime('now', '-1 hour')),
    ('whe_01kaq3v9e8fwmvd2x7n0c5hd1z', 'cli_01kaq3v9e8fwmvd2x7n0c5hb4z', 'https://portal.example/webhooks/old',
     '*', 'cloudevents', '', datetime('now', '-1 hour'), datetime('now', '-1 hour'));
