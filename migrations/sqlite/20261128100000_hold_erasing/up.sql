-- After a restore nothing is erased until somebody unfreezes issuing, whatever the clocks said meanwhile.
ALTER TABLE service_state ADD COLUMN erasing_held BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE service_state SET erasing_held = TRUE
WHERE frozen_at IS NOT NULL AND EXISTS (SELECT 1 FROM audit_restores WHERE audit_restores.tenant_id = '_system');
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128100000', '20261128020000');
